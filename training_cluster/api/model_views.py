"""The shapes of models as the native API shows them, and what fills them."""

from __future__ import annotations

from typing import Any

from training_cluster.api.examples import JOB_ID, STARTED_AT
from training_cluster.api.links import link
from training_cluster.api.shape import Shape
from training_cluster.domain.model import Model, ModelKind
from training_cluster.domain.principal import Principal

_MODEL_ID = "0199a0b6-21d4-7b1e-8c55-6a0d9e3f4471"


class TrainedOnView(Shape):
    """The dataset a model was trained on; `sha256` identifies its content."""

    version: str | None
    sha256: str | None


class ModelSummary(Shape):
    """A model as lists show it. `key` names it, as do its number, its id and `name@alias`; its
    name alone means the newest. Sizes are bytes, times Unix seconds. Of a deleted one only this
    record is left."""

    model_id: str
    number: int
    key: str
    name: str
    version: str
    aliases: list[str]
    user: str
    kind: ModelKind
    base_model: str
    job_id: str
    job_number: int
    attempt: int
    parent_id: str | None
    dataset: TrainedOnView
    metrics: dict[str, float]
    size_bytes: int
    is_public: bool
    created_at: float
    deleted_at: float | None
    links: dict[str, str]


class ModelView(ModelSummary):
    """A model with the configuration of its job, and the files it consists of below `path`."""

    config: dict[str, Any]
    path: str
    files: list[str]


class ModelPage(Shape):
    """Models, newest first; `next_cursor` is null on the last page."""

    models: list[ModelSummary]
    next_cursor: str | None


SUMMARY: dict[str, Any] = {
    "model_id": _MODEL_ID,
    "number": 3,
    "key": "initial-sft@v2",
    "name": "initial-sft",
    "version": "v2",
    "aliases": ["best"],
    "user": "alice",
    "kind": "adapter",
    "base_model": "Qwen/Qwen2.5-1.5B-Instruct",
    "job_id": JOB_ID,
    "job_number": 7,
    "attempt": 1,
    "parent_id": None,
    "dataset": {"version": "v1.0", "sha256": "5d1c0c" + "0" * 58},
    "metrics": {"first_loss": 2.31, "final_loss": 1.27, "steps": 540},
    "size_bytes": 36981264,
    "is_public": False,
    "created_at": STARTED_AT + 440,
    "deleted_at": None,
    "links": {
        "self": f"/models/{_MODEL_ID}",
        "job": f"/train/{JOB_ID}",
        "download": f"/models/{_MODEL_ID}/download",
        "card": f"/models/{_MODEL_ID}/card",
    },
}
DETAIL = {
    **SUMMARY,
    "config": {"model_name": "Qwen/Qwen2.5-1.5B-Instruct", "learning_rate": 2.0e-5},
    "path": f"/var/lib/training-cluster/jobs/{JOB_ID}/attempt-1/output",
    "files": ["adapter_config.json", "adapter_model.safetensors", "README.md"],
}
DELETED = {**DETAIL, "aliases": [], "deleted_at": STARTED_AT + 900}


def links(model: Model) -> dict[str, str]:
    """Where to go on from a model."""
    path = f"/models/{model.id}"
    found = {"self": path, "job": f"/train/{model.job_id}"}
    if model.deleted_at is None:
        found |= {"download": f"{path}/download", "card": f"{path}/card"}
    return found


def summary(model: Model) -> dict[str, Any]:
    """A model as lists show it."""
    return {
        "model_id": model.id,
        "number": model.number,
        "key": model.key,
        "name": model.name,
        "version": model.version,
        "aliases": model.aliases,
        "user": model.user,
        "kind": model.kind.value,
        "base_model": model.base_model,
        "job_id": model.job_id,
        "job_number": model.job_number,
        "attempt": model.attempt,
        "parent_id": model.parent_id,
        "dataset": {"version": model.dataset, "sha256": model.dataset_sha256},
        "metrics": dict(model.metrics),
        "size_bytes": model.size_bytes,
        "is_public": model.is_public,
        "created_at": model.created_at,
        "deleted_at": model.deleted_at,
        "links": {"self": link(f"/models/{model.id}"), "job": link(f"/train/{model.job_id}")},
    }


def detail(model: Model, by: Principal) -> dict[str, Any]:
    """A model with everything about it that is for `by` to see."""
    config = dict(model.config)
    if not by.owns(model.user):
        config |= {"webhook_url": None, "tracking": None}
    return {**summary(model), "config": config, "path": model.path, "files": model.files}
