"""Finds the registered model that a job starts from: `chat@v2` in place of a hub id or a path."""

from __future__ import annotations

import sqlite3
from dataclasses import replace

from training_cluster.domain.errors import (
    FieldProblem,
    Forbidden,
    ModelNotAllowed,
    ModelNotFound,
    Pruned,
)
from training_cluster.domain.model import Model, ModelKind
from training_cluster.domain.spec import DOWNLOAD, TRAIN, JobSpec
from training_cluster.ports import Trainer
from training_cluster.services.starting_checkpoints import (
    from_checkpoint,
    is_key,
    require_kept,
)
from training_cluster.store import models
from training_cluster.store.database import Database


async def pinned(
    database: Database, trainer: Trainer, spec: JobSpec, user: str, *, is_admin: bool
) -> JobSpec:
    """The spec with what a registered model it names consists of: its base and LoRA adapter, or its
    own weights, and its id; likewise a checkpoint. Other names stay as they are; hub ids and paths
    have a slash.

    Raises ModelNotAllowed, with a problem on `model_name`, and Forbidden for a model of somebody
    else that is not public."""
    if spec.kind == DOWNLOAD or (spec.model_id is None and "/" in spec.model_name):
        return spec
    if spec.kind == TRAIN and is_key(spec.model_name):
        return await from_checkpoint(database, trainer, spec, user, is_admin=is_admin)
    model = await database.read(lambda c: _find(c, spec.model_id or spec.model_name))
    if not (is_admin or model.is_public or model.user == user):
        raise Forbidden(
            f"model {model.key} belongs to {model.user}, not to {user}",
            hint="its owner can make it public",
        )
    return starting_from(spec, model)


def starting_from(spec: JobSpec, model: Model) -> JobSpec:
    """The spec of a job that starts from this model."""
    if model.kind is ModelKind.ADAPTER:
        return replace(spec, model_id=model.id, model_name=model.base_model, adapter=model.path)
    return replace(spec, model_id=model.id, model_name=model.path, adapter=None)


def require_standing(connection: sqlite3.Connection, spec: JobSpec) -> None:
    """Raise ModelNotAllowed when the model or the checkpoint a job is to start from was removed
    meanwhile."""
    if spec.model_id is not None:
        _find(connection, spec.model_id)
    if spec.checkpoint is not None:
        require_kept(spec)


def _find(connection: sqlite3.Connection, key: str) -> Model:
    try:
        model = models.find(connection, key)
        if model.deleted_at is not None:
            raise Pruned(f"model {model.key} was deleted")
    except (ModelNotFound, Pruned) as error:
        expected = (
            "a hub id such as Qwen/Qwen2.5-1.5B-Instruct, an absolute path below a model root, or "
            "a registered model such as chat@v2"
        )
        problem = FieldProblem("model_name", error.message, expected)
        hint = "GET /models lists what is registered"
        raise ModelNotAllowed(error.message, problems=(problem,), hint=hint) from error
    return model
