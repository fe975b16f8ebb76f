"""Lamini's routes for trainings: start one, look, list."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated

from fastapi import Query, Request, Response

from training_cluster.api.auth import Caller, Submitter
from training_cluster.api.dialects.lamini import documents, examples, from_job, places, views
from training_cluster.api.dialects.lamini.known_data import require_data
from training_cluster.api.dialects.lamini.own_jobs import own_jobs
from training_cluster.api.dialects.lamini.receiving import Received, receiving
from training_cluster.api.dialects.lamini.schemas import GpuConfig, TrainPayload
from training_cluster.api.dialects.lamini.to_spec import Asked, to_spec
from training_cluster.api.late_routes import LateRouter
from training_cluster.api.services import Daemon, Services, answer
from training_cluster.domain.dataset import DatasetVersion
from training_cluster.domain.dataset_errors import NameTaken
from training_cluster.domain.errors import (
    FieldProblem,
    InvalidRequest,
    JobNotFound,
    ModelNotAllowed,
    ModelNotFound,
    Pruned,
    StorageFull,
    TooManyJobs,
    TrainingClusterError,
)
from training_cluster.domain.job import Job, QueuedJob
from training_cluster.domain.model import ModelKind
from training_cluster.domain.principal import Principal
from training_cluster.domain.spec import GIB
from training_cluster.scheduling.plan import fits
from training_cluster.services.jobs import Overview, Submission

router = LateRouter(prefix="/v1/train", tags=["lamini"])

_MOST_POINTS = 1000
_MOST_PRINTED = 4000
_NOT_OPENED = "is_public opens the model only: the dataset is somebody else's, or lies in a folder"


@router.post(
    "",
    summary="Train a model",
    openapi_extra=documents.TRAIN_BODY,
    responses=documents.answers(
        views.Created, examples.CREATED, ModelNotAllowed, NameTaken, TooManyJobs, StorageFull
    ),
)
async def train(request: Request, daemon: Daemon, caller: Submitter) -> Response:
    """On a dataset that is here (dataset_id or upload_file_path) or on the data in the request,
    which is preferred. `warnings` name what cannot be honoured."""
    async with receiving(request, daemon.datasets) as received:
        payload = received.parsed(TrainPayload)
        if received.incoming is None:
            dataset_id = _named(payload)
            overview = await _submit_on_known(payload, dataset_id, daemon, caller)
        else:
            added, dataset_id = await _adopt(payload, received, caller)
            overview = await _submit_or_forget(payload, added, dataset_id, daemon, caller)
    content = {
        "job_id": overview.job.number,
        "status": from_job.CREATED,
        "dataset_id": dataset_id,
        "warnings": overview.job.warnings,
    }
    return answer(content, headers=_printed(overview.job.warnings))


def _printed(warnings: Sequence[str]) -> dict[str, str] | None:
    """What lamini 3 prints where the script runs, once in its life."""
    if not warnings:
        return None
    text = " | ".join(warnings).encode("ascii", "backslashreplace").decode()
    return {"X-Warning": re.sub(r"[\x00-\x1f\x7f]", " ", text)[:_MOST_PRINTED]}


def _named(payload: TrainPayload) -> str:
    """The dataset a request names. Raises InvalidRequest."""
    if payload.dataset_id:
        return payload.dataset_id
    place = payload.upload_file_path
    found = places.dataset_at(place) if place else None
    if found is not None:
        return found
    if place:
        raise _refused(
            "upload_file_path",
            "upload_file_path is no place of this daemon: nothing is read from there",
            "a dataset_location of this daemon, dataset_id, or data",
        )
    raise _refused(
        "dataset_id",
        "there is nothing to train on: neither dataset_id nor data nor upload_file_path",
        "dataset_id, or data: a list of objects with input and output",
    )


def _refused(field: str, message: str, expected: str) -> InvalidRequest:
    return InvalidRequest(message, problems=(FieldProblem(field, message, expected),))


async def _adopt(
    payload: TrainPayload, received: Received, caller: Principal
) -> tuple[DatasetVersion, str]:
    """The dataset of the rows in a request, and what the client calls it: what it has asked a
    place for, or what we call it."""
    place = payload.upload_file_path
    chosen = payload.dataset_id or (places.dataset_at(place) if place else None)
    name = None if chosen is None else places.require_name(chosen)
    public = bool(payload.is_public)
    added = await received.adopt(caller.name, name, is_public=public, base_model=payload.model_name)
    return added, name or added.id


async def _submit_on_known(
    payload: TrainPayload, dataset_id: str, daemon: Services, caller: Principal
) -> Overview:
    """Lamini's is_public concerns model and dataset; one of somebody else is not opened."""
    owner = await require_data(daemon, dataset_id)
    opened = bool(payload.is_public) and owner == caller.name
    warnings = () if opened or not payload.is_public else (_NOT_OPENED,)
    overview = await _submit(payload, dataset_id, dataset_id, daemon, caller, warnings)
    if opened:
        await daemon.datasets.set_public(dataset_id, caller, is_public=True)
    return overview


async def _submit_or_forget(
    payload: TrainPayload,
    added: DatasetVersion,
    dataset_id: str,
    daemon: Services,
    caller: Principal,
) -> Overview:
    """A request that is refused leaves no dataset behind."""
    try:
        return await _submit(payload, added.id, dataset_id, daemon, caller)
    except TrainingClusterError:
        await daemon.datasets.delete(added.id, caller)
        raise


async def _submit(
    payload: TrainPayload,
    dataset: str,
    dataset_id: str,
    daemon: Services,
    caller: Principal,
    warnings: tuple[str, ...] = (),
) -> Overview:
    possible = _possible_gpus(payload.gpu_config, daemon)
    goes_on = await _is_adapter(payload.model_name, daemon)
    asked: Asked = to_spec(payload, dataset, dataset_id, possible, goes_on=goes_on)
    submission = Submission(
        spec=asked.spec,
        user=caller.name,
        is_admin=caller.is_admin,
        warnings=(*asked.warnings, *warnings),
        request=asked.request,
    )
    return await daemon.jobs.submit(submission)


async def _is_adapter(name: str, daemon: Services) -> bool:
    """Whether a model is a LoRA adapter of this daemon."""
    try:
        return (await daemon.models.get(name)).kind is ModelKind.ADAPTER
    except (ModelNotFound, Pruned):
        return False


def _possible_gpus(config: GpuConfig | None, daemon: Services) -> int:
    """How many devices of the machine could serve a job together with others."""
    memory = int((config.min_gpu_memory or 0) * GIB) if config else 0
    wanted = QueuedJob("", 0, gpus=2, min_memory_bytes=memory)
    alone = QueuedJob("", 0, gpus=1, min_memory_bytes=memory)
    devices = daemon.devices.latest.devices
    together = sum(fits(wanted, device) for device in devices)
    return together or int(any(fits(alone, device) for device in devices))


@router.get(
    "/jobs",
    summary="List one's trainings, newest first",
    responses=documents.answers(list[views.JobStatus], [examples.JOB]),
)
async def list_jobs(
    daemon: Daemon,
    caller: Caller,
    limit: Annotated[int, Query(ge=1, le=1000, description="Ours: how many at most.")] = 1000,
) -> Response:
    """Whichever API they came by. `history` has the latest line of each."""
    found = await own_jobs(daemon, caller.name, most=limit)
    known = await daemon.standings.of(found)
    return answer(
        [from_job.body(job, known[job.number], caller, from_job.latest(job)) for job in found]
    )


@router.get(
    "/jobs/{job_id}",
    summary="Look at a training",
    responses=documents.answers(views.JobStatus, examples.JOB, JobNotFound),
)
async def get_job(job_id: str, daemon: Daemon, caller: Caller) -> Response:
    """By its number or by the native API's id."""
    job = (await daemon.jobs.get(job_id)).job
    known = await daemon.standings.of([job])
    history = from_job.points(await _measured(job, daemon))
    return answer(from_job.body(job, known[job.number], caller, history))


async def _measured(job: Job, daemon: Services) -> list[tuple[int, Mapping[str, float]]]:
    """What a job has measured, by step; a long history is thinned out."""
    by_step: dict[int, dict[str, float]] = {}
    names = tuple(from_job.HISTORY)
    async for curves in daemon.curves.curves(job, names, _MOST_POINTS):
        for curve in curves:
            for step, value in zip(curve.steps, curve.values, strict=True):
                by_step.setdefault(step, {})[curve.name] = value
    return sorted(by_step.items())
