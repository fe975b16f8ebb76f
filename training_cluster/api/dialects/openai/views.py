"""The answers of the OpenAI dialect, as OpenAPI shows them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from training_cluster.api.dialects.errors import told_at
from training_cluster.api.problems import STATUS
from training_cluster.api.shape import Shape
from training_cluster.domain.errors import (
    AccessDenied,
    Forbidden,
    InvalidRequest,
    TooManyFailures,
    TrainingClusterError,
)


class ErrorBody(Shape):
    """What went wrong, and with which parameter."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorView(Shape):
    """An error as the SDKs read it."""

    error: ErrorBody


class JobErrorView(Shape):
    """Why a job failed."""

    code: str
    message: str
    param: str | None


class HyperparametersView(Shape):
    """What a job is trained with, every "auto" resolved."""

    n_epochs: int | float
    batch_size: int
    learning_rate_multiplier: int | float


class WandbView(Shape):
    """Where at W&B the run goes."""

    project: str
    name: str | None
    entity: str | None
    tags: list[str]


class IntegrationView(Shape):
    """A tracker that is told."""

    type: Literal["wandb"]
    wandb: WandbView


class JobView(Shape):
    """A fine-tuning job. Times are Unix seconds."""

    id: str
    object: Literal["fine_tuning.job"]
    created_at: int
    error: JobErrorView | None
    fine_tuned_model: str | None
    finished_at: int | None
    hyperparameters: HyperparametersView
    model: str
    organization_id: str
    result_files: list[str]
    seed: int
    status: Literal[
        "validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"
    ]
    trained_tokens: int | None
    training_file: str
    validation_file: str | None
    integrations: list[IntegrationView]
    estimated_finish: int | None
    metadata: dict[str, str] | None
    method: dict[str, Any]


class JobList(Shape):
    """Jobs, newest first; `after` goes on behind the last."""

    object: Literal["list"]
    data: list[JobView]
    has_more: bool


class JobEventView(Shape):
    """Something that happened to a job, or was measured."""

    id: str
    object: Literal["fine_tuning.job.event"]
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any]


class JobEventList(Shape):
    """Events, newest first."""

    object: Literal["list"]
    data: list[JobEventView]
    has_more: bool


class CheckpointView(Shape):
    """A checkpoint that is on the disk, with the metrics at its step."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"]
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    metrics: dict[str, float]
    step_number: int


class CheckpointList(Shape):
    """Checkpoints, the furthest first."""

    object: Literal["list"]
    data: list[CheckpointView]
    first_id: str | None
    last_id: str | None
    has_more: bool


JOB: dict[str, Any] = {
    "id": "ftjob-0199a0b45c1e7c3a9f7e3f1d5b7c9e21",
    "object": "fine_tuning.job",
    "created_at": 1795228200,
    "error": None,
    "fine_tuned_model": "ft:Qwen2.5-1.5B-Instruct:alice:support:7",
    "finished_at": 1795231800,
    "hyperparameters": {"n_epochs": 3, "batch_size": 2, "learning_rate_multiplier": 1},
    "model": "Qwen/Qwen2.5-1.5B-Instruct",
    "organization_id": "alice",
    "result_files": ["file-results-0199a0b45c1e7c3a9f7e3f1d5b7c9e21"],
    "seed": 42,
    "status": "succeeded",
    "trained_tokens": 48210,
    "training_file": "file-0199a0b3e1d27b0c8a1d6c0f2b4e7a95",
    "validation_file": None,
    "integrations": [],
    "estimated_finish": None,
    "metadata": {"team": "support"},
    "method": {
        "type": "supervised",
        "supervised": {
            "hyperparameters": {"n_epochs": 3, "batch_size": 2, "learning_rate_multiplier": 1}
        },
    },
}
WAITING: dict[str, Any] = {
    **JOB,
    "fine_tuned_model": None,
    "finished_at": None,
    "result_files": [],
    "status": "queued",
    "trained_tokens": None,
}
EVENT: dict[str, Any] = {
    "id": "ftevent-0-112-0",
    "object": "fine_tuning.job.event",
    "created_at": 1795229100,
    "level": "info",
    "message": "Step 40/120: training loss=0.8123",
    "type": "metrics",
    "data": {"step": 40, "total_steps": 120, "train_loss": 0.8123},
}
CHECKPOINT: dict[str, Any] = {
    "id": "ftckpt-0199a0b45c1e7c3a9f7e3f1d5b7c9e21-1-100",
    "object": "fine_tuning.job.checkpoint",
    "created_at": 1795230000,
    "fine_tuned_model_checkpoint": "ft:Qwen2.5-1.5B-Instruct:alice:support:7:ckpt-step-100",
    "fine_tuning_job_id": JOB["id"],
    "metrics": {"step": 100, "train_loss": 0.6021},
    "step_number": 100,
}
REQUESTS: dict[str, Any] = {
    "the least": {
        "value": {"model": "Qwen/Qwen2.5-1.5B-Instruct", "training_file": JOB["training_file"]}
    },
    "supervised": {
        "value": {
            "model": "Qwen/Qwen2.5-1.5B-Instruct",
            "training_file": JOB["training_file"],
            "suffix": "support",
            "metadata": {"team": "support"},
            "method": {
                "type": "supervised",
                "supervised": {"hyperparameters": {"n_epochs": "auto", "batch_size": 8}},
            },
        }
    },
    "with native fields": {
        "value": {
            "model": "Qwen/Qwen2.5-1.5B-Instruct",
            "training_file": "v1.0",
            "training_cluster": {"template": "qwen", "gpus": 1},
        }
    },
}


def listed(*items: dict[str, Any]) -> dict[str, Any]:
    """A page of these."""
    return {"object": "list", "data": list(items), "has_more": False}


def answers(
    model: type[BaseModel], example: Any, *errors: type[TrainingClusterError]
) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's `responses` for a route: an example of the answer and of every error."""
    content = {"application/json": {"example": example}}
    found: dict[int | str, dict[str, Any]] = {200: {"model": model, "content": content}}
    kinds: tuple[type[TrainingClusterError], ...]
    kinds = (*errors, InvalidRequest, AccessDenied, Forbidden, TooManyFailures)
    for kind in kinds:
        status = next(status for base, status in STATUS if issubclass(kind, base))
        title = (kind.__doc__ or "").strip()
        told = told_at("/v1", "POST", {"status": status, "title": title, "code": kind.code})
        assert told is not None
        body = {"application/json": {"example": dict(told.content)}}
        found.setdefault(told.status, {"model": ErrorView, "description": title, "content": body})
    return found
