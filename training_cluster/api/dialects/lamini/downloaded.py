"""Lamini's routes for base models: what is here, and having the hub's fetched.

The same four routes with and without a slash at the end: its clients say it with one, its document
says both, and a redirect would lose the body.
"""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from fastapi import Body, Response

from training_cluster.api.auth import Caller, Submitter
from training_cluster.api.dialects.lamini import documents, examples, views
from training_cluster.api.dialects.lamini.from_job import iso
from training_cluster.api.dialects.lamini.schemas import DownloadPayload
from training_cluster.api.late_routes import LateRouter
from training_cluster.api.services import Daemon, Services, answer
from training_cluster.api.strict_json import StrictJsonRoute
from training_cluster.domain.disclosure import error_for_others
from training_cluster.domain.errors import StorageFull, TooManyJobs
from training_cluster.domain.job import FINISHED, Job, JobState
from training_cluster.domain.principal import Principal
from training_cluster.services.base_models import BaseModel

router = LateRouter(tags=["lamini"], route_class=StrictJsonRoute)

Status = Literal["available", "downloading", "failed"]
_PATH = "/v1alpha/downloaded_models"
_ALSO = (f"{_PATH}/", "/v1/downloaded_models", "/v1/downloaded_models/")
_TYPE = "transformer"
_PATIENCE_SECONDS = 60.0  # a client that waits asks every second, for a minute


@router.get(
    _PATH,
    summary="List base models that are here",
    responses=documents.answers(list[views.DownloadedModel], [examples.DOWNLOADED]),
)
async def list_models(daemon: Daemon, caller: Caller) -> Response:
    """What lies in the hub's cache and below the model roots, and what is being fetched."""
    latest = _by_name(await daemon.base_models.downloads())
    found = {model.name: model for model in await daemon.base_models.all()}
    names = sorted({*found, *latest})
    return answer([_listed(name, found.get(name), latest.get(name), caller) for name in names])


@router.post(
    _PATH,
    summary="Fetch a base model from the hub",
    responses=documents.answers(views.Downloading, examples.DOWNLOADING, TooManyJobs, StorageFull),
)
async def download(
    daemon: Daemon,
    caller: Submitter,
    body: Annotated[DownloadPayload, Body(openapi_examples=examples.DOWNLOADS)],
) -> Response:
    """Asking again tells how far it is. One that is here is not fetched again; one that has just
    failed is, after a minute or with a token."""
    name = body.hf_model_name
    status, job = await _fetched(body, daemon, caller)
    error = job.error if job is not None and status == "failed" else None
    content = {
        "model_name": name,
        "model_type": body.model_type or _TYPE,
        "status": status,
        "job_id": None if job is None else job.number,
        "error": None if error is None else f"{error.code}: {error.message}",
        "warnings": body.left_out(),
    }
    return answer(content)


for _path in _ALSO:
    router.get(_path, include_in_schema=False)(list_models)
    router.post(_path, include_in_schema=False)(download)


async def _fetched(
    body: DownloadPayload, daemon: Services, caller: Principal
) -> tuple[Status, Job | None]:
    name, downloads = body.hf_model_name, await daemon.base_models.downloads()
    here = {model.name: model for model in await daemon.base_models.all()}
    if _status(here.get(name), _by_name(downloads).get(name)) == "available":
        return "available", None
    if body.private_hf_token is None:
        own = [job for job in downloads if job.user == caller.name]
        last = _by_name(own).get(name)
        if last is not None and _has_just_failed(last):
            return "failed", last
    made = await daemon.base_models.fetch(name, caller, token=body.private_hf_token)
    return "downloading", made.job


def _by_name(jobs: list[Job]) -> dict[str, Job]:
    """The newest download of each model."""
    return {job.spec.model_name: job for job in reversed(jobs)}


def _has_just_failed(job: Job) -> bool:
    ended = job.state in (JobState.FAILED, JobState.CANCELLED) and job.finished_at
    return bool(ended) and time.time() - (job.finished_at or 0) < _PATIENCE_SECONDS


def _listed(name: str, model: BaseModel | None, job: Job | None, by: Principal) -> dict[str, Any]:
    error = job.error if job is not None else None
    if job is not None and error is not None and not by.owns(job.user):
        error = error_for_others(error, job.user)
    return {
        "model_id": None if job is None else job.number,
        "model_name": name,
        "model_type": _TYPE,
        "user_id": None if job is None else job.user,
        "is_public": True,
        "creation_ts": None if job is None else iso(job.created_at),
        "prev_download_ts": iso(job.finished_at) if job and job.finished_at else None,
        "prev_download_error": None if error is None else f"{error.code}: {error.message}",
        "download_attempts": 0 if job is None else job.attempt_number,
        "status": _status(model, job),
    }


def _status(model: BaseModel | None, job: Job | None) -> Status:
    if job is not None and job.state not in FINISHED:
        return "downloading"
    return "available" if model is not None and model.is_complete else "failed"
