"""Our jobs in Lamini's words."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from training_cluster.api.dialects.lamini.to_spec import DIALECT
from training_cluster.domain.disclosure import error_for_others
from training_cluster.domain.job import Job, JobState
from training_cluster.domain.principal import Principal
from training_cluster.services.standings import Standing

CREATED = "CREATED"
SCHEDULED = "SCHEDULED"
LOADING = "LOADING DATA"
TRAINING = "TRAINING MODEL"
EVALUATING = "EVALUATING MODEL"
SAVING = "SAVING MODEL"
COMPLETED = "COMPLETED"
PARTIAL = "PARTIALLY COMPLETED"
CANCELLED = "CANCELLED"
FAILED = "FAILED"

STATUSES: Mapping[JobState, str] = {
    JobState.QUEUED: SCHEDULED,
    JobState.PREPARING: LOADING,
    JobState.RUNNING: TRAINING,
    JobState.STOPPING: SAVING,
    JobState.PAUSED: CANCELLED,
    JobState.COMPLETED: COMPLETED,
    JobState.FAILED: FAILED,
    JobState.CANCELLED: CANCELLED,
}
"""The plain cases; `status` has the two that look closer."""
HISTORY = {
    "train/loss": "loss",
    "train/learning_rate": "learning_rate",
    "train/epoch": "epoch",
    "eval/loss": "eval_loss",
}


def status(job: Job, standing: Standing) -> str:
    """Where a job is. One that was stopped and can go on from a checkpoint is partially completed;
    one that has done every step and runs still is saving its model."""
    if job.state in (JobState.PAUSED, JobState.CANCELLED) and standing.step:
        return PARTIAL
    if job.state is JobState.RUNNING and job.progress is not None and job.progress.fraction >= 1:
        return SAVING
    return STATUSES[job.state]


def body(
    job: Job, standing: Standing, by: Principal, history: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """A job as GET /v1/train/jobs/{id} shows it to `by`; also one that came another way."""
    said = job.request.data if job.request and job.request.dialect == DIALECT else {}
    error = job.error
    if error is not None and not by.owns(job.user):
        error = error_for_others(error, job.user)
    return {
        "job_id": job.number,
        "status": status(job, standing),
        "start_time": iso(job.started_at or job.created_at),
        "model_name": standing.model_name,
        "custom_model_name": said.get("custom_model_name") or job.spec.save_name,
        "base_model_name": job.spec.model_name,
        "is_public": bool(said.get("is_public", False)),
        "history": json.dumps(list(history), separators=(",", ":")),
        "resume_count": standing.resumes,
        "dataset_id": said.get("dataset_id") or job.spec.dataset_version,
        "error": None if error is None else f"{error.code}: {error.message}. {error.hint}".strip(),
        "warnings": list(job.warnings),
    }


def latest(job: Job) -> list[dict[str, Any]]:
    """The history of a job as far as its record tells it: its last line."""
    if job.progress is None or not job.metrics:
        return []
    return [_point(job.progress.step, job.metrics, job.progress.epoch)]


def points(lines: Iterable[tuple[int, Mapping[str, float]]]) -> list[dict[str, Any]]:
    """The history of a job from its metrics by step."""
    return [point for step, values in lines if len(point := _point(step, values)) > 1]


def _point(step: int, values: Mapping[str, float], epoch: float | None = None) -> dict[str, Any]:
    point: dict[str, Any] = {"step": step}
    for ours, theirs in HISTORY.items():
        if ours in values:
            point[theirs] = values[ours]
    if epoch is not None:
        point["epoch"] = epoch
    return point


def iso(seconds: float) -> str:
    """UTC without saying so, as Lamini writes times."""
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()
