"""Models for OpenAI's clients: what jobs have left, under the names the jobs show, and what
trainings can start from."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated, Any, Literal

from fastapi import Path, Response
from pydantic import BaseModel as View

from training_cluster.api.auth import Caller, Submitter
from training_cluster.api.dialects.openai import names
from training_cluster.api.dialects.openai.views import answers
from training_cluster.api.late_routes import LateRouter
from training_cluster.api.services import Daemon, Services, answer
from training_cluster.domain.errors import (
    Conflict,
    JobNotFound,
    ModelInUse,
    ModelNotFound,
    Pruned,
)
from training_cluster.domain.job import Job
from training_cluster.domain.model import Model
from training_cluster.services.base_models import BaseModel
from training_cluster.services.models import LAST
from training_cluster.services.saved_checkpoints import SavedCheckpoint

router = LateRouter(prefix="/v1/models", tags=["openai"])

ModelId = Annotated[str, Path(max_length=512, description="`ft:...`, or a name of the registry.")]
_AT_ONCE = 500


class ModelView(View):
    """A model. `created` is Unix seconds."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(View):
    """All models: tuned ones, newest first, and base models by name."""

    object: Literal["list"]
    data: list[ModelView]


class DeletedModelView(View):
    """A model that is gone."""

    id: str
    object: Literal["model"]
    deleted: bool


MODEL: dict[str, Any] = {
    "id": "ft:Qwen2.5-1.5B-Instruct:alice:support:7",
    "object": "model",
    "created": 1795231800,
    "owned_by": "alice",
}
_DELETED = {"id": MODEL["id"], "object": "model", "deleted": True}


@router.get(
    "",
    summary="List models",
    responses=answers(ModelList, {"object": "list", "data": [MODEL]}),
)
async def list_models(daemon: Daemon, _: Caller) -> Response:
    """What jobs have left, everybody's; then the base models in the hub's cache and below the
    model roots."""
    data, before = list[dict[str, Any]](), LAST
    while True:
        part = await daemon.models.page(before=before, limit=_AT_ONCE)
        data += [_view(model) for model in part]
        if len(part) < _AT_ONCE:
            break
        before = part[-1].number
    data += [await asyncio.to_thread(_base, model) for model in await _complete(daemon)]
    return answer({"object": "list", "data": data})


@router.get(
    "/{model:path}",
    summary="Look at a model",
    responses=answers(ModelView, MODEL, ModelNotFound),
)
async def get_model(model: ModelId, daemon: Daemon, _: Caller) -> Response:
    """Also a checkpoint that is on the disk, by the name its job shows for it."""
    if "/" in model:
        base = next((each for each in await _complete(daemon) if each.name == model), None)
        if base is not None:
            return answer(await asyncio.to_thread(_base, base))
    if names.step_of_model(model) is not None:
        return answer(_checkpoint(model, *await checkpoint(model, daemon)))
    return answer(_view(await find(model, daemon)))


@router.delete(
    "/{model:path}",
    summary="Delete a model",
    responses=answers(DeletedModelView, _DELETED, ModelNotFound, ModelInUse, Conflict),
)
async def delete_model(model: ModelId, daemon: Daemon, caller: Submitter) -> Response:
    """Its files go; refused while a job uses it. Base models are not deleted from here."""
    if any(base.name == model for base in await daemon.base_models.all()):
        raise Conflict(f"{model} is a base model, which is not deleted from here")
    if names.step_of_model(model) is not None:
        hint = "training-cluster prune checkpoints removes those that nobody needs"
        raise Conflict(f"{model} is a checkpoint, which goes with its job", hint=hint)
    gone = await daemon.models.delete((await find(model, daemon)).id, caller)
    return answer({"id": names.registered_model(gone), "object": "model", "deleted": True})


async def find(name: str, daemon: Services) -> Model:
    """A model whose files are there, by OpenAI's name or by one of the registry. Raises
    ModelNotFound."""
    number = names.job_of_model(name)
    try:
        if number is None:
            return await daemon.models.get(name)
        job = await daemon.history.job(str(number))
        found = await daemon.models.by_job(job.id)
    except (JobNotFound, Pruned):
        raise _missing(name) from None
    if found is None or found.deleted_at is not None or not names.is_name_of(name, job, found):
        raise _missing(name)
    return found


async def checkpoint(name: str, daemon: Services) -> tuple[Job, SavedCheckpoint]:
    """A checkpoint on the disk, by OpenAI's name. Raises ModelNotFound."""
    try:
        job, saved = await daemon.checkpoints.of(str(names.job_of_model(name)))
    except JobNotFound:
        raise _missing(name) from None
    step = names.step_of_model(name)
    found = next((each for each in saved if each.step == step), None)
    if found is None or not names.is_name_of(name, job, await daemon.models.by_job(job.id)):
        raise _missing(name)
    return job, found


def _missing(name: str) -> ModelNotFound:
    return ModelNotFound(f"there is no model {name!r}", hint="GET /v1/models lists them")


async def _complete(daemon: Services) -> list[BaseModel]:
    """The base models that are whole."""
    return [model for model in await daemon.base_models.all() if model.is_complete]


def _base(model: BaseModel) -> dict[str, Any]:
    """A base model, as old as its folder."""
    try:
        created = int(os.stat(model.path).st_mtime)
    except OSError:
        created = 0
    owner = "huggingface" if model.source == "hub" else "local"
    return {"id": model.name, "object": "model", "created": created, "owned_by": owner}


def _checkpoint(name: str, job: Job, saved: SavedCheckpoint) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": int(saved.saved_at),
        "owned_by": job.user,
    }


def _view(model: Model) -> dict[str, Any]:
    return {
        "id": names.registered_model(model),
        "object": "model",
        "created": int(model.created_at),
        "owned_by": model.user,
    }
