"""Vertesia's training jobs: start one in a session, cancel it, look at any, wait for its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, nullcontext
from typing import Annotated, Any

import pydantic_core
from fastapi import Depends, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from training_cluster.api.auth import Caller, Submitter
from training_cluster.api.dialects import waiting
from training_cluster.api.dialects.vertesia import views
from training_cluster.api.dialects.vertesia.from_job import from_job
from training_cluster.api.dialects.vertesia.to_spec import to_spec
from training_cluster.api.dialects.vertesia.views import ANYWHERE, JobView, shown
from training_cluster.api.late_routes import LateRouter
from training_cluster.api.services import Daemon, Services, answer
from training_cluster.api.streams import OpenStreams
from training_cluster.api.strict_json import StrictJsonRoute
from training_cluster.domain.errors import (
    Forbidden,
    InvalidDataset,
    JobAlreadyFinished,
    JobNotFound,
    StorageFull,
    TooManyJobs,
    TooManyStreams,
)
from training_cluster.domain.job import FINISHED, Job, JobState
from training_cluster.domain.principal import Principal
from training_cluster.domain.session_errors import SessionNotFound, SessionNotReady

router = LateRouter(
    prefix="/api/v1/training", route_class=StrictJsonRoute, tags=["vertesia"], responses=ANYWHERE
)

SessionId = Annotated[str, Path(max_length=64)]
JobId = Annotated[str, Path(max_length=64, description="A job's id or number.")]

_CANCEL_SECONDS = 5.0
_WAITS = "An answer that waits begins at once, with blanks, so that no proxy takes it for dead."


@router.post(
    "/{session_id}/start",
    summary="Start the training of a session",
    responses=shown(
        JobView,
        {**views.JOB, "status": "pending", "details": "in the queue"},
        *(SessionNotFound, Forbidden, SessionNotReady, InvalidDataset, TooManyJobs, StorageFull),
    ),
)
async def start_training(session_id: SessionId, daemon: Daemon, caller: Submitter) -> Response:
    """A job trains the session's model on its dataset, which may still be checked: it waits for
    that. Asking again while it is under way is 409."""
    started = await daemon.interactions.trainings.start(session_id, to_spec, caller)
    return answer(from_job(started.job, caller, waiting=started.waiting))


@router.post(
    "/{session_id}/cancel",
    summary="Cancel the training of a session",
    responses=shown(
        JobView,
        {**views.JOB, "status": "cancelled", "details": None},
        *(SessionNotFound, Forbidden, SessionNotReady, JobAlreadyFinished),
    ),
)
async def cancel_training(session_id: SessionId, daemon: Daemon, caller: Submitter) -> Response:
    """Answers when the trainer has ended, or after 5 seconds with the job as it is then:
    `running` until it has stopped."""
    job = await daemon.interactions.trainings.cancel(session_id, caller)
    await waiting.until(daemon, job, FINISHED, _CANCEL_SECONDS, caller)
    return answer(await _view(job.id, daemon, caller))


Sync = Annotated[bool, Query(description=f"Answer when the job has ended. {_WAITS}")]


async def _place(request: Request, caller: Caller, sync: Sync = False) -> AsyncIterator[None]:
    """Who waits takes the place of a stream. Raises TooManyStreams."""
    streams: OpenStreams = request.app.state.streams
    with streams.place(caller.name) if sync else nullcontext():
        yield


@router.get(
    "/job/{job_id}",
    summary="Look at a training job, or wait for its end",
    responses=shown(JobView, views.JOB, JobNotFound, TooManyStreams),
)
async def get_job(
    job_id: JobId,
    daemon: Daemon,
    caller: Caller,
    _: Annotated[None, Depends(_place)],
    sync: Sync = False,
) -> Response:
    """Any job, whoever asked for it by whatever API. With `sync` the answer comes at its end, or
    after `limits.sync_seconds` with the job as it is then."""
    job = (await daemon.jobs.get(job_id)).job
    if not sync or job.state in FINISHED:
        return answer(await _view(job.id, daemon, caller))
    return StreamingResponse(_at_its_end(daemon, job, caller), media_type="application/json")


async def _at_its_end(daemon: Services, job: Job, caller: Principal) -> AsyncIterator[bytes]:
    """The view of a job when it has ended, after blanks: JSON may begin with them."""
    yield b" "
    async for _ in _until_over(daemon, job, caller, daemon.interactions.sync_seconds):
        if caller.token_id is not None and daemon.tokens.valid(caller.token_id) is None:
            return  # nothing more is told to who has only that
        yield b" "
    try:
        ended = await _view(job.id, daemon, caller)
    except JobNotFound:  # removed since then: as it was when it was asked for
        ended = from_job(job, caller, model=None, waiting=None)
    yield pydantic_core.to_json(ended)


async def _until_over(
    daemon: Services, job: Job, by: Principal, seconds: float
) -> AsyncIterator[None]:
    """Ends when the job has, or after so many seconds; gives a sign of life now and then."""
    deadline = time.monotonic() + seconds
    after = await daemon.history.last_event()
    async with aclosing(daemon.history.follow_events(after, job=job, by=by)) as told:
        while (left := deadline - time.monotonic()) > 0:
            try:
                await asyncio.wait_for(anext(told), left)
            except (StopAsyncIteration, TimeoutError):
                return
            yield


async def _view(key: str, daemon: Services, caller: Principal) -> dict[str, Any]:
    found = await daemon.jobs.get(key)
    model = await _model_of(found.job, daemon)
    return from_job(found.job, caller, model=model, waiting=found.waiting)


async def _model_of(job: Job, daemon: Services) -> str | None:
    if job.state is not JobState.COMPLETED:
        return None
    model = await daemon.models.by_job(job.id)
    return None if model is None else model.key
