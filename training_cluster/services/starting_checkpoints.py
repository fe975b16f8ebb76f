"""Finds the checkpoint that a job starts from: `job:7@step-100` in place of a hub id or a path."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from training_cluster.domain.errors import FieldProblem, Forbidden, JobNotFound, ModelNotAllowed
from training_cluster.domain.job import FINISHED, Job
from training_cluster.domain.spec import JobSpec
from training_cluster.ports import Trainer
from training_cluster.services.saved_checkpoints import SavedCheckpoint, SavedCheckpoints
from training_cluster.store import models
from training_cluster.store.database import Database

_KEY = re.compile(r"job:([0-9A-Za-z-]{1,36})@step-(\d{1,12})")
_PREFIX = "job:"
_WEIGHTS = "adapter_config.json"


def key(job: Job, step: int) -> str:
    """What `model_name` takes for a checkpoint of a job."""
    return f"{_PREFIX}{job.id}@step-{step}"


def is_key(name: str) -> bool:
    """Whether a name is meant for a checkpoint; no model can be called so."""
    return name.startswith(_PREFIX)


async def from_checkpoint(
    database: Database, trainer: Trainer, spec: JobSpec, user: str, *, is_admin: bool
) -> JobSpec:
    """The spec with the base and the LoRA adapter that its checkpoint consists of.

    Raises ModelNotAllowed, with a problem on `model_name`, and Forbidden for a job of somebody else
    whose model is not public."""
    found = _KEY.fullmatch(spec.model_name)
    if found is None:
        raise _refusal(f"{spec.model_name!r} names no checkpoint")
    job, saved = await _look(SavedCheckpoints(database, trainer), found[1])
    model = await database.read(lambda c: models.by_job(c, job.id))
    if not (is_admin or job.user == user or (model is not None and model.is_public)):
        message = f"the checkpoints of job {job.number} belong to {job.user}, not to {user}"
        raise Forbidden(message, hint="its owner can make its model public")
    checkpoint = _require_usable(job, saved, int(found[2]))
    return replace(
        spec,
        model_name=job.spec.model_name,
        adapter=str(checkpoint.path),
        checkpoint=key(job, checkpoint.step).removeprefix(_PREFIX),
    )


async def _look(checkpoints: SavedCheckpoints, job: str) -> tuple[Job, list[SavedCheckpoint]]:
    try:
        return await checkpoints.of(job)
    except JobNotFound as error:
        raise _refusal(error.message) from None


def _require_usable(job: Job, saved: list[SavedCheckpoint], step: int) -> SavedCheckpoint:
    if job.state not in FINISHED:
        raise _refusal(f"job {job.number} is not over: its checkpoints come and go")
    found = next((each for each in saved if each.step == step), None)
    if found is None:
        steps = ", ".join(str(each.step) for each in saved) or "none"
        raise _refusal(f"job {job.number} has no checkpoint at step {step} (it has: {steps})")
    if not (found.path / _WEIGHTS).is_file() or job.spec.model_id is not None:
        raise _refusal(
            f"the checkpoint of job {job.number} at step {step} is not a LoRA adapter on a base "
            "model, which is what a job can start from"
        )
    return found


def require_kept(spec: JobSpec) -> None:
    """Raise ModelNotAllowed when the checkpoint a job is to start from is not there any more."""
    if spec.adapter is None or not (Path(spec.adapter) / _WEIGHTS).is_file():
        raise _refusal(f"the checkpoint {spec.checkpoint} was removed meanwhile")


def _refusal(message: str) -> ModelNotAllowed:
    expected = "the checkpoint of a job that is over, such as job:7@step-100"
    problem = FieldProblem("model_name", message, expected)
    hint = "GET /v1/fine_tuning/jobs/{id}/checkpoints lists those of a job"
    return ModelNotAllowed(message, problems=(problem,), hint=hint)
