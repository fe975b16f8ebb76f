"""The native API's moves of jobs: cancel, pause, resume, retry."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Body, Response
from pydantic import Field

from training_cluster.api import examples
from training_cluster.api.auth import Submitter
from training_cluster.api.examples import shown
from training_cluster.api.late_routes import LateRouter
from training_cluster.api.services import Daemon, answer
from training_cluster.api.strict_json import StrictJsonRoute
from training_cluster.api.strict_model import Strict
from training_cluster.api.views import CancelledView, PausedView, ResumedView
from training_cluster.domain.errors import Forbidden, JobAlreadyFinished, JobNotFound, WrongState
from training_cluster.domain.job import JobState
from training_cluster.services.job_control import Begin, Controlled

router = LateRouter(route_class=StrictJsonRoute, tags=["jobs"])


_RESUMES: dict[str, Any] = {"ahead of others": {"value": {"priority": 10}}}
_RETRIES: dict[str, Any] = {"from the start": {"value": {"from": "start"}}}


class ResumeRequest(Strict):
    """How a paused job goes on; nothing need be said."""

    priority: int | None = Field(
        None, ge=-100, le=100, description="None: the one it has. Higher goes first."
    )


class RetryRequest(Strict):
    """How a job is tried again; nothing need be said."""

    begin: Begin = Field(
        Begin.CHECKPOINT,
        alias="from",
        description="Its last complete checkpoint (the start if it has none), or the start.",
    )


@router.delete(
    "/train/{job_id}",
    summary="Cancel a job",
    responses=shown(CancelledView, examples.CANCELLED, JobNotFound, JobAlreadyFinished),
)
async def cancel_job(job_id: str, daemon: Daemon, caller: Submitter) -> Response:
    """A job that waits or is paused is cancelled at once. A running one is told to stop: it may
    save a checkpoint, then all its processes are ended and its devices freed."""
    job = await daemon.jobs.cancel(job_id, caller)
    stopping = job.state is JobState.STOPPING
    content = {
        "job_id": job.id,
        "status": job.state.value,
        "message": "Training job is being stopped" if stopping else "Training job cancelled",
    }
    return answer(content)


@router.post(
    "/train/{job_id}/pause",
    summary="Have a job save, stop and free its devices",
    responses=shown(
        PausedView, examples.PAUSING, Forbidden, JobNotFound, JobAlreadyFinished, WrongState
    ),
)
async def pause_job(job_id: str, daemon: Daemon, caller: Submitter) -> Response:
    """A running job saves a checkpoint and stops: `stopping` until then, `paused` after it. A
    queued one is paused at once. Pausing a paused job changes nothing."""
    done = await daemon.jobs.pause(job_id, caller)
    if done.job.state is JobState.STOPPING:
        message = "Training job is saving a checkpoint and being paused"
    else:
        message = f"Training job paused; it goes on {_where(done)}"
    return answer(_content(done, message))


@router.post(
    "/train/{job_id}/resume",
    summary="Let a paused job go on",
    responses=shown(ResumedView, examples.RESUMED, Forbidden, JobNotFound, WrongState),
)
async def resume_job(
    job_id: str,
    daemon: Daemon,
    caller: Submitter,
    body: Annotated[ResumeRequest | None, Body(openapi_examples=_RESUMES)] = None,
) -> Response:
    """Back into the queue, ahead of later jobs of its priority; it goes on from its last complete
    checkpoint."""
    done = await daemon.jobs.resume(job_id, caller, body.priority if body else None)
    return answer(_content(done, f"Training job queued; it goes on {_where(done)}"))


@router.post(
    "/train/{job_id}/retry",
    summary="Try a failed or cancelled job again",
    responses=shown(ResumedView, examples.RETRIED, Forbidden, JobNotFound, WrongState),
)
async def retry_job(
    job_id: str,
    daemon: Daemon,
    caller: Submitter,
    body: Annotated[RetryRequest | None, Body(openapi_examples=_RETRIES)] = None,
) -> Response:
    """A new attempt of the same job, from its last complete checkpoint or from the start. Jobs
    that failed because they depend on it are to be tried again by themselves."""
    done = await daemon.jobs.retry(job_id, caller, body.begin if body else Begin.CHECKPOINT)
    return answer(_content(done, f"Training job queued again; it goes on {_where(done)}"))


def _content(done: Controlled, message: str) -> dict[str, object]:
    return {
        "job_id": done.job.id,
        "status": done.job.state.value,
        "message": message,
        "resumed_from_step": done.step,
    }


def _where(done: Controlled) -> str:
    return f"from step {done.step}" if done.step else "from the start: nothing is saved"
