"""The native API's jobs: submit, list, look, read logs, cancel."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Query, Request, Response

from training_cluster.api import logs, render
from training_cluster.api.auth import Principal
from training_cluster.api.problems import documented
from training_cluster.api.schemas import TrainRequest
from training_cluster.api.services import Daemon, answer
from training_cluster.api.strict_json import StrictJsonRoute
from training_cluster.api.views import CancelledView, JobPage, JobView, SubmittedView
from training_cluster.domain.errors import (
    IdempotencyMismatch,
    JobAlreadyFinished,
    JobNotFound,
    NoDeviceFree,
    StorageFull,
    StoreUnavailable,
)
from training_cluster.domain.job import JobState
from training_cluster.services.jobs import Strategy, Submission
from training_cluster.store.jobs import LAST

router = APIRouter(route_class=StrictJsonRoute, tags=["jobs"])

_ID = "0199a0b4-5c1e-7c3a-9f7e-3f1d5b7c9e21"
_SUBMITTED = {
    "started": {
        "value": {
            "job_id": _ID,
            "number": 7,
            "status": "started",
            "message": "Training job started",
            "queue_position": None,
            "wait_reason": None,
            "estimated_start": None,
            "warnings": [],
            "links": render.job_links(_ID),
        }
    },
    "queued": {
        "value": {
            "job_id": _ID,
            "number": 8,
            "status": "queued",
            "message": "Training job queued",
            "queue_position": 1,
            "wait_reason": {
                "code": "devices_in_use",
                "message": "needs 1 device; 0 free; GPU 0: leased by job 7",
            },
            "estimated_start": 1795228800.0,
            "warnings": [],
            "links": render.job_links(_ID),
        }
    },
}
_REJECTED = {
    "description": "strategy=reject and no device is free; nothing was stored",
    "headers": {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}},
    "content": {
        "application/json": {
            "example": {
                "job_id": None,
                "status": "rejected",
                "message": "the job was rejected: needs 1 device; 0 free; GPU 0: leased by job 7",
                "code": "no_device_free",
                "hint": "submit with strategy=queue to have it wait",
            }
        }
    },
}
_EXAMPLES: dict[str, Any] = {
    "basic": {"value": {"dataset_version": "v1.0", "lora_name": "initial-sft"}},
    "all the documented parameters": {
        "value": {
            "model_name": "Qwen/Qwen2.5-1.5B-Instruct",
            "lora_name": "initial-sft",
            "lora_version": "2",
            "dataset_version": "v1.0",
            "template": "qwen",
            "cutoff_len": 2048,
            "max_samples": 10000,
            "batch_size": 1,
            "gradient_accumulation_steps": 8,
            "save_steps": 501,
            "learning_rate": "2.0e-5",
            "num_epochs": 2.0,
            "tracking_backend": "mlflow",
            "save_name": "test_reasoning",
        }
    },
}


@router.post(
    "/train",
    summary="Submit a training job",
    responses={
        200: {
            "model": SubmittedView,
            "content": {"application/json": {"examples": _SUBMITTED}},
        },
        409: _REJECTED,
        **documented(IdempotencyMismatch, StorageFull, StoreUnavailable),
    },
)
async def submit(
    body: Annotated[TrainRequest, Body(openapi_examples=_EXAMPLES)],
    daemon: Daemon,
    user: Principal,
    strategy: Annotated[
        Strategy, Query(description="What to do when no device is free; `accept` is `queue`.")
    ] = Strategy.QUEUE,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=255,
            description="The same key and body again answer with the same job.",
        ),
    ] = None,
) -> Response:
    """Take a job. When the answer arrives the job is durable: `started` when devices were free
    and are leased to it now, `queued` with position and wait reason otherwise."""
    submission = Submission(
        spec=body.to_spec(),
        user=user,
        strategy=strategy,
        warnings=body.warnings(),
        idempotency_key=idempotency_key,
    )
    try:
        overview = await daemon.jobs.submit(submission)
    except NoDeviceFree as error:
        return _rejected(error)
    headers = {"Idempotency-Replayed": "true"} if overview.replayed else None
    return answer(render.submitted(overview), headers=headers)


def _rejected(error: NoDeviceFree) -> Response:
    content = {
        "job_id": None,
        "status": "rejected",
        "message": error.message,
        "code": error.code,
        "hint": error.hint,
    }
    return answer(content, 409, {"Retry-After": str(error.retry_after_seconds)})


@router.get("/train", summary="List jobs, newest first", responses={200: {"model": JobPage}})
async def list_jobs(
    daemon: Daemon,
    _: Principal,
    status: Annotated[JobState | None, Query(description="Only jobs in this state.")] = None,
    user: Annotated[str | None, Query(max_length=128, description="Only this user's.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    cursor: Annotated[
        str | None, Query(max_length=64, description="next_cursor of the page before.")
    ] = None,
) -> Response:
    """Pages stay stable while jobs are added: the cursor is a position, not an offset."""
    before = LAST if cursor is None else render.decode_cursor(cursor)
    found = await daemon.jobs.page(state=status, user=user, before=before, limit=limit + 1)
    return answer(render.page(found, limit))


@router.get(
    "/train/{job_id}",
    summary="Look at one job",
    responses={200: {"model": JobView}, **documented(JobNotFound)},
)
async def get_job(job_id: str, daemon: Daemon, _: Principal) -> Response:
    """Everything known about a job; its id or its number names it."""
    return answer(render.detail(await daemon.jobs.get(job_id)))


@router.delete(
    "/train/{job_id}",
    summary="Cancel a queued or running job",
    responses={200: {"model": CancelledView}, **documented(JobNotFound, JobAlreadyFinished)},
)
async def cancel_job(job_id: str, daemon: Daemon, _: Principal) -> Response:
    """A queued job is cancelled at once. A running one is told to stop: it may save a checkpoint,
    then all its processes are ended and its devices freed."""
    job = await daemon.jobs.cancel(job_id)
    stopping = job.state is JobState.STOPPING
    content = {
        "job_id": job.id,
        "status": job.state.value,
        "message": "Training job is being stopped" if stopping else "Training job cancelled",
    }
    return answer(content)


@router.get(
    "/train/{job_id}/logs",
    summary="Read what the trainer printed",
    responses={
        200: {"content": {"text/plain": {}}, "description": "The log, or a part of it."},
        **documented(JobNotFound),
    },
)
async def get_logs(
    job_id: str,
    request: Request,
    daemon: Daemon,
    _: Principal,
    attempt: Annotated[int | None, Query(ge=1, description="None: the latest.")] = None,
    tail: Annotated[int | None, Query(ge=0, le=100_000, description="Last lines.")] = None,
    offset: Annotated[int, Query(ge=0, description="First byte; for following.")] = 0,
) -> Response:
    """`X-Next-Offset` tells where to go on, `X-Job-Status` whether more may come."""
    overview = await daemon.jobs.get(job_id)
    return await logs.answer_with_log(overview, attempt=attempt, tail=tail, offset=offset)
