"""What a submission needs of the store: the job its key names, the jobs it depends on."""

from __future__ import annotations

import sqlite3
from dataclasses import replace

from training_cluster.domain.errors import (
    FieldProblem,
    IdempotencyMismatch,
    InvalidRequest,
    JobNotFound,
    UnknownDataset,
)
from training_cluster.services.starting_models import require_standing
from training_cluster.store import datasets, jobs
from training_cluster.store.jobs import NewJob


def insert(connection: sqlite3.Connection, new: NewJob) -> None:
    """Store a job with the ids of those it depends on. Raises InvalidRequest for one that is not
    there, ModelNotAllowed and UnknownDataset when the model it starts from, or its dataset, is not
    there any more."""
    require_standing(connection, new.spec)
    _require_dataset(connection, new)
    spec = replace(new.spec, depends_on=_resolve(connection, new.spec.depends_on))
    jobs.insert(connection, replace(new, spec=spec))


def _require_dataset(connection: sqlite3.Connection, new: NewJob) -> None:
    if new.dataset_id is None:
        return
    found = datasets.ever(connection, new.dataset_id)
    if found is None or found.deleted_at is not None:
        message = f"the dataset {new.spec.dataset_version} was deleted"
        problem = FieldProblem("dataset_version", message, "a dataset that is there")
        raise UnknownDataset(message, problems=(problem,), hint="GET /datasets lists them")


def known_job(connection: sqlite3.Connection, new: NewJob) -> str | None:
    """The job made with the same Idempotency-Key, if any. Raises IdempotencyMismatch."""
    if new.idempotency_key is None:
        return None
    known = jobs.by_idempotency_key(connection, new.user, new.idempotency_key)
    if known is not None and known[1] != new.request_sha256:
        raise IdempotencyMismatch(hint="use a fresh key for a different job")
    return known[0] if known else None


def _resolve(connection: sqlite3.Connection, keys: tuple[str, ...]) -> tuple[str, ...]:
    resolved = []
    for index, key in enumerate(keys):
        try:
            resolved.append(jobs.find(connection, key).id)
        except JobNotFound as error:
            problem = FieldProblem(f"depends_on.{index}", error.message, "the id of a job")
            raise InvalidRequest(error.message, problems=(problem,)) from error
    return tuple(dict.fromkeys(resolved))
