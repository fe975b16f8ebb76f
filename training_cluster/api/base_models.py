"""The native API's base models: what is here, and fetching more from the hub."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Body, Response
from pydantic import BaseModel as View
from pydantic import Field, StringConstraints

from training_cluster.api import examples, render
from training_cluster.api.auth import Caller, Submitter
from training_cluster.api.examples import shown
from training_cluster.api.late_routes import LateRouter
from training_cluster.api.schemas import HUB_ID_PATTERN, HubToken, Revision
from training_cluster.api.services import Daemon, answer
from training_cluster.api.strict_json import StrictJsonRoute
from training_cluster.api.strict_model import Strict
from training_cluster.api.views import ErrorView, ProgressView, SubmittedView
from training_cluster.domain.errors import InvalidRequest, StorageFull, TooManyJobs
from training_cluster.domain.job import Job, JobState
from training_cluster.domain.principal import Principal
from training_cluster.services.base_models import BaseModel

router = LateRouter(route_class=StrictJsonRoute, tags=["models"])


class DownloadRequest(Strict):
    """A model to fetch from the hub."""

    name: Annotated[str, StringConstraints(pattern=HUB_ID_PATTERN)] = Field(
        description="A hub id `owner/name`."
    )
    revision: Revision | None = Field(None, description="A branch, tag or commit; default: `main`.")
    private_hf_token: HubToken | None = Field(
        None,
        repr=False,
        description="For a private or gated model. Kept in a file until the download is over, and "
        "never shown.",
    )


class BaseModelView(View):
    """A model that trainings can start from; `name` is what `model_name` takes. `source` is `hub`
    for the hub's cache and `root` for a model root."""

    name: str
    source: str
    path: str
    size_bytes: int
    files: list[str]
    revision: str | None
    is_complete: bool


class DownloadView(View):
    """A download; its progress is in MiB."""

    job_id: str
    number: int
    name: str
    user: str
    status: JobState
    progress: ProgressView | None
    error: ErrorView | None


class BaseModelsView(View):
    """What is here, by name, and the latest downloads."""

    base_models: list[BaseModelView]
    downloads: list[DownloadView]


_BASE: dict[str, Any] = {
    "name": "Qwen/Qwen2.5-1.5B-Instruct",
    "source": "hub",
    "path": "/home/lab/.cache/huggingface/hub/models--Qwen--Qwen2.5-1.5B-Instruct/snapshots/989a",
    "size_bytes": 3098456064,
    "files": ["config.json", "model.safetensors", "tokenizer.json"],
    "revision": "989aa7980e4cf806f80c7fef2b1adb7bc71aa306",
    "is_complete": True,
}
_DOWNLOAD: dict[str, Any] = {
    "job_id": examples.JOB_ID,
    "number": 9,
    "name": "Qwen/Qwen2.5-1.5B-Instruct",
    "user": "alice",
    "status": "running",
    "progress": {**examples.PROGRESS, "step": 812, "total_steps": 2955, "percent": 27.48},
    "error": None,
}
_REQUESTS: dict[str, Any] = {
    "a public model": {"value": {"name": "Qwen/Qwen2.5-1.5B-Instruct"}},
    "a gated one": {"value": {"name": "owner/gated", "private_hf_token": "hf_..."}},
}


@router.get(
    "/base-models",
    summary="List the base models that are here",
    responses=shown(BaseModelsView, {"base_models": [_BASE], "downloads": [_DOWNLOAD]}),
)
async def list_base_models(daemon: Daemon, caller: Caller) -> Response:
    """What lies in the hub's cache and below the model roots, and what is being fetched."""
    found, latest = await daemon.base_models.all(), await daemon.base_models.downloads()
    return answer(
        {
            "base_models": [_base(model) for model in found],
            "downloads": [_download(job, caller) for job in latest],
        }
    )


@router.post(
    "/base-models",
    summary="Fetch a base model from the hub",
    responses=shown(SubmittedView, examples.QUEUED, InvalidRequest, TooManyJobs, StorageFull),
)
async def fetch_base_model(
    body: Annotated[DownloadRequest, Body(openapi_examples=_REQUESTS)],
    daemon: Daemon,
    caller: Submitter,
) -> Response:
    """A queued job of the kind `download`, without a device: it has progress, is cancelled and
    paused as any job, and goes on where an earlier one was cut off."""
    made = await daemon.base_models.fetch(
        body.name, caller, revision=body.revision, token=body.private_hf_token
    )
    return answer(render.submitted(made))


def _base(model: BaseModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "source": model.source,
        "path": model.path,
        "size_bytes": model.size_bytes,
        "files": model.files,
        "revision": model.revision,
        "is_complete": model.is_complete,
    }


def _download(job: Job, by: Principal) -> dict[str, Any]:
    whole = render.summary(job, by)
    kept = ("job_id", "number", "user", "status", "progress", "error")
    return {"name": job.spec.model_name, **{name: whole[name] for name in kept}}
