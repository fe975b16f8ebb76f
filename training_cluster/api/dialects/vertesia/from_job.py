"""A job of ours as Vertesia's training job."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from training_cluster.domain.disclosure import error_for_others
from training_cluster.domain.job import Job, JobState
from training_cluster.domain.principal import Principal
from training_cluster.services.queue import Waiting

JOB_STATUS = {
    JobState.QUEUED: "pending",
    JobState.PAUSED: "pending",
    JobState.PREPARING: "running",
    JobState.RUNNING: "running",
    JobState.STOPPING: "running",
    JobState.COMPLETED: "completed",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "cancelled",
}
"""Their words for the states of a job."""
_STANDING = {
    JobState.QUEUED: "in the queue",
    JobState.PREPARING: "its trainer is starting",
    JobState.PAUSED: "paused; POST /train/{id}/resume lets it go on",
    JobState.STOPPING: "it is being stopped",
}


def moment(seconds: float) -> str:
    """Unix seconds as ISO 8601 with milliseconds, in UTC."""
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def from_job(
    job: Job, by: Principal, *, model: str | None = None, waiting: Waiting | None = None
) -> dict[str, Any]:
    """What Vertesia's clients know of a training: `details` says, to `by`, why it waits or failed,
    `model` names what it has made."""
    return {
        "id": job.id,
        "status": JOB_STATUS[job.state],
        "created_at": moment(job.created_at),
        "updated_at": moment(last_moment(job)),
        "details": _details(job, by, waiting),
        "model": model,
        "warnings": list(job.warnings),
    }


def last_moment(job: Job) -> float:
    """When something last became of a job, in Unix seconds."""
    return max(job.created_at, job.started_at or 0.0, job.finished_at or 0.0)


def _details(job: Job, by: Principal, waiting: Waiting | None) -> str | None:
    if job.error is not None:
        error = job.error if by.owns(job.user) else error_for_others(job.error, job.user)
        said = f"{error.code}: {error.message.rstrip('.')}"
        return f"{said}. {error.hint}" if error.hint else said
    if waiting is not None:
        return f"number {waiting.position} in the queue: {waiting.reason.message}"
    if job.state is JobState.RUNNING and job.progress is not None:
        return f"step {job.progress.step} of {job.progress.total_steps}"
    return _STANDING.get(job.state)
