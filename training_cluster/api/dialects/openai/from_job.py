"""Our jobs in OpenAI's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training_cluster.api.dialects.errors import with_openai_paths
from training_cluster.api.dialects.openai import names
from training_cluster.api.dialects.openai.hyperparameters import method, shown
from training_cluster.api.dialects.openai.to_spec import SEED
from training_cluster.domain.disclosure import error_for_others
from training_cluster.domain.job import FINISHED, Job, JobError, JobState
from training_cluster.domain.principal import Principal

STATUSES: Mapping[JobState, str] = {
    JobState.QUEUED: "queued",
    JobState.PREPARING: "running",
    JobState.RUNNING: "running",
    JobState.STOPPING: "running",
    JobState.PAUSED: "paused",
    JobState.COMPLETED: "succeeded",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "cancelled",
}
VALIDATING = "validating_files"
"""A job that waits for the check of its file."""

_PARAMS = {"dataset_invalid": "training_file", "model_unavailable": "model"}


def status(job: Job, *, checking: bool) -> str:
    """Where a job is; `checking` tells that its file is still being checked."""
    if checking and job.state is JobState.QUEUED:
        return VALIDATING
    return STATUSES[job.state]


def body(
    job: Job, by: Principal, *, checking: bool = False, estimated_finish: float | None = None
) -> dict[str, Any]:
    """A job as `by` may see it, also one that came another way. `estimated_finish` is Unix
    seconds."""
    return {
        "id": names.job_id(job.id),
        "object": "fine_tuning.job",
        "created_at": int(job.created_at),
        "error": None if job.error is None else _error(job, job.error, by),
        "fine_tuned_model": names.tuned_model(job) if has_model(job) else None,
        "finished_at": None if job.finished_at is None else int(job.finished_at),
        "hyperparameters": shown(job.spec),
        "model": names.base_model(job),
        "organization_id": job.user,
        "result_files": [names.results_id(job)] if has_results(job) else [],
        "seed": int(job.spec.overrides.get("seed", SEED)),  # type: ignore[arg-type]
        "status": status(job, checking=checking),
        "trained_tokens": _tokens(job),
        "training_file": names.training_file(job),
        "validation_file": names.validation_file(job),
        "integrations": integrations(job) if by.owns(job.user) else [],
        "estimated_finish": None if estimated_finish is None else int(estimated_finish),
        "metadata": _metadata(job),
        "method": method(job.spec),
    }


def has_model(job: Job) -> bool:
    """Whether a job has left a model."""
    return job.state is JobState.COMPLETED and (job.result or {}).get("path") is not None


def has_results(job: Job) -> bool:
    """Whether a file tells what a job has measured: once it is over, if it measured anything."""
    return job.state in FINISHED and bool(job.metrics)


def integrations(job: Job) -> list[dict[str, Any]]:
    """Where at W&B a job is told of, if a place was named."""
    place = job.spec.tracking
    if "wandb" not in job.spec.trackers or not place.get("project"):
        return []
    said = {
        "project": place["project"],
        "name": place.get("run_name"),
        "entity": place.get("entity"),
        "tags": list(place.get("tags", [])),
    }
    return [{"type": "wandb", "wandb": said}]


def _error(job: Job, error: JobError, by: Principal) -> dict[str, Any]:
    seen = error if by.owns(job.user) else error_for_others(error, job.user)
    message = f"{seen.message}. {seen.hint}" if seen.hint else seen.message
    param = _PARAMS.get(seen.code)
    if param == "training_file" and names.validation_file(job) is not None:
        param = None  # either of them
    return {"code": seen.code, "message": with_openai_paths(message), "param": param}


def _tokens(job: Job) -> int | None:
    """Tokens the model has seen, once the job is over; None where nobody counted."""
    if job.state not in FINISHED:
        return None
    counted = (job.result or {}).get("tokens") or (job.metrics or {}).get("train/total_tokens")
    return None if counted is None else int(counted)


def _metadata(job: Job) -> dict[str, str] | None:
    if job.request is None:
        return None
    said = job.request.data.get("metadata")
    return said if isinstance(said, dict) else None
