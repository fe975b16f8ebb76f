"""Lamini's routes that move trainings: cancel one or all, resume.

Lamini's cancel can be taken back, so it is our pause: the trainer saves a checkpoint, and the job
waits for a resume. DELETE /train/{id} ends a job for good.
"""

from __future__ import annotations

from typing import Any

from fastapi import Response

from training_cluster.api.auth import Submitter
from training_cluster.api.dialects.lamini import documents, examples, from_job, views
from training_cluster.api.dialects.lamini.own_jobs import own_jobs, until
from training_cluster.api.late_routes import LateRouter
from training_cluster.api.services import Daemon, answer
from training_cluster.domain.errors import (
    Conflict,
    Forbidden,
    JobAlreadyFinished,
    JobNotFound,
    WrongState,
)
from training_cluster.domain.job import ACTIVE, Job, JobState
from training_cluster.services.job_control import Controlled

router = LateRouter(prefix="/v1/train/jobs", tags=["lamini"])

_MOST = 100_000
_STOPPING_SECONDS = 30.0
_LIVE = (JobState.RUNNING, JobState.PREPARING, JobState.QUEUED)


@router.post(
    "/cancel",
    summary="Cancel all of one's trainings",
    responses=documents.answers(views.AllCancelled, examples.ALL_CANCELLED),
)
async def cancel_all(daemon: Daemon, caller: Submitter) -> Response:
    """Those that wait or run, whichever API they came by; of nobody else, also for an admin."""
    moved = []
    for state in _LIVE:
        for job in await own_jobs(daemon, caller.name, most=_MOST, state=state):
            try:
                moved.append(_cancelled(await daemon.jobs.pause(job.id, caller)))
            except Conflict:  # it has ended meanwhile, or is being stopped
                continue
    return answer({"status": from_job.CANCELLED, "jobs": moved})


@router.post(
    "/{job_id}/cancel",
    summary="Cancel a training so that it can be resumed",
    responses=documents.answers(
        views.Moved, examples.MOVED, JobNotFound, Forbidden, JobAlreadyFinished, WrongState
    ),
)
async def cancel_job(job_id: str, daemon: Daemon, caller: Submitter) -> Response:
    """A running job saves a checkpoint and stops: GET says SAVING MODEL until then, PARTIALLY
    COMPLETED after it. Cancelling a cancelled job changes nothing."""
    job = (await daemon.jobs.get(job_id)).job
    if job.state is JobState.CANCELLED:
        caller.require_ownership(job.user, f"job {job.number}")
        return answer(_moved(job, from_job.CANCELLED, "The job was cancelled before"))
    return answer(_cancelled(await daemon.jobs.pause(job_id, caller)))


@router.post(
    "/{job_id}/resume",
    summary="Let a training go on",
    responses=documents.answers(views.Moved, examples.RESUMED, JobNotFound, Forbidden, WrongState),
)
async def resume_job(job_id: str, daemon: Daemon, caller: Submitter) -> Response:
    """From its last checkpoint. One that was cancelled or has failed goes back into the queue; one
    that still saves its checkpoint is waited for."""
    job = await until(daemon, job_id, caller, _STOPPING_SECONDS, _has_stopped)
    if job.state in (JobState.FAILED, JobState.CANCELLED):
        done = await daemon.jobs.retry(job.id, caller)
    else:
        done = await daemon.jobs.resume(job.id, caller)
    where = f"from step {done.step}" if done.step else "from the start: nothing was saved"
    return answer(_moved(done.job, from_job.SCHEDULED, f"The job goes on {where}"))


def _has_stopped(job: Job) -> bool:
    return job.state is not JobState.STOPPING


def _cancelled(done: Controlled) -> dict[str, Any]:
    if done.job.state in ACTIVE:
        message = "The job saves a checkpoint and stops; resume lets it go on from there"
    elif done.step:
        message = f"The job is cancelled; resume lets it go on from step {done.step}"
    else:
        message = "The job is cancelled; resume lets it begin"
    return _moved(done.job, from_job.CANCELLED, message)


def _moved(job: Job, status: str, message: str) -> dict[str, Any]:
    return {"job_id": job.number, "status": status, "message": message}
