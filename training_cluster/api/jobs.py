"""The native API's jobs: submit, list, look."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Body, Header, Query, Response

from training_cluster.api import examples, render
from training_cluster.api.auth import Caller, Submitter
from training_cluster.api.examples import shown
from training_cluster.api.late_routes import LateRouter
from training_cluster.api.problems import documented
from training_cluster.api.schemas import TrainRequest
from training_cluster.api.services import Daemon, answer
from training_cluster.api.strict_json import StrictJsonRoute
from training_cluster.api.views import JobPage, JobView, SubmittedView
from training_cluster.domain.errors import (
    IdempotencyMismatch,
    JobNotFound,
    NoDeviceFree,
    StorageFull,
    StoreUnavailable,
    TooManyJobs,
)
from training_cluster.domain.job import JobState
from training_cluster.services.jobs import Strategy, Submission
from training_cluster.store.jobs import LAST

router = LateRouter(route_class=StrictJsonRoute, tags=["jobs"])

_SUBMITTED = {
    "model": SubmittedView,
    "content": {
        "application/json": {
            "examples": {
                "started": {"value": examples.STARTED},
                "queued": {"value": examples.QUEUED},
            }
        }
    },
}
_REJECTED = {
    "description": "strategy=reject and no device is free; nothing was stored",
    "headers": {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}},
    "content": {"application/json": {"example": examples.REJECTED}},
}
_REQUESTS: dict[str, Any] = {
    "basic": {"value": examples.BASIC_REQUEST},
    "all the documented parameters": {"value": examples.FULL_REQUEST},
}


@router.post(
    "/train",
    summary="Submit a training job",
    responses={
        200: _SUBMITTED,
        409: _REJECTED,
        **documented(IdempotencyMismatch, TooManyJobs, StorageFull, StoreUnavailable),
    },
)
async def submit(
    body: Annotated[TrainRequest, Body(openapi_examples=_REQUESTS)],
    daemon: Daemon,
    caller: Submitter,
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
        user=caller.name,
        strategy=strategy,
        warnings=body.warnings(daemon.jobs.trackers),
        idempotency_key=idempotency_key,
        is_admin=caller.is_admin,
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


@router.get(
    "/train",
    summary="List jobs, newest first",
    responses=shown(JobPage, {"jobs": [examples.SUMMARY], "next_cursor": None}),
)
async def list_jobs(
    daemon: Daemon,
    caller: Caller,
    status: Annotated[JobState | None, Query(description="Only jobs in this state.")] = None,
    user: Annotated[str | None, Query(max_length=128, description="Only this user's.")] = None,
    kind: Annotated[
        Literal["train", "export", "evaluate", "download"] | None,
        Query(description="Only of this kind."),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    cursor: Annotated[
        str | None, Query(max_length=64, description="next_cursor of the page before.")
    ] = None,
) -> Response:
    """Pages stay stable while jobs are added: the cursor is a position, not an offset."""
    before = LAST if cursor is None else render.decode_cursor(cursor)
    found = await daemon.jobs.page(
        kind=kind, state=status, user=user, before=before, limit=limit + 1
    )
    return answer(render.page(found, limit, caller))


@router.get(
    "/train/{job_id}",
    summary="Look at one job",
    responses=shown(JobView, examples.JOB, JobNotFound),
)
async def get_job(job_id: str, daemon: Daemon, caller: Caller) -> Response:
    """Everything known about a job; its id or its number names it. What it said when it failed,
    and where it is told of, is for its owner and admins."""
    return answer(render.detail(await daemon.jobs.get(job_id), caller))
