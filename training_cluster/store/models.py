"""Models in SQLite: register what a job left, find, page, alias, bury."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from training_cluster.domain.errors import Conflict, ModelNotFound
from training_cluster.domain.event import EventType
from training_cluster.domain.ids import is_job_id, new_job_id
from training_cluster.domain.job import Job, Outcome, Verdict
from training_cluster.domain.model import (
    KIND_OF_RESULT,
    Model,
    ModelKind,
    default_name,
    figures,
    model_name,
    version_name,
)
from training_cluster.store import events, jobs
from training_cluster.store.model_places import find_place

LAST = 2**62

_INSERT = """
INSERT INTO models (id, name, version, user, kind, base_model, job_id, job_number, attempt_number,
                    parent_id, dataset, dataset_sha256, config, metrics, path, size_bytes, files,
                    is_public, created_at)
VALUES (:id, :name, :version, :user, :kind, :base_model, :job_id, :job_number, :attempt_number,
        :parent_id, :dataset, :dataset_sha256, :config, :metrics, :path, :size_bytes, :files,
        :is_public, :created_at)"""
_SELECT = """
SELECT m.*, (SELECT json_group_array(alias) FROM model_aliases a
  WHERE a.model_number = m.number) AS aliases FROM models m"""
_BY_NUMBER = _SELECT + " WHERE m.number = ?"
_BY_ID = _SELECT + " WHERE m.id = ?"
_BY_JOB = _SELECT + " WHERE m.job_id = ?"
_BY_VERSION = _SELECT + " WHERE m.name = ? AND m.version = ?"
_ALIASED = "(SELECT model_number FROM model_aliases WHERE name = ? AND alias = ?)"
_BY_ALIAS = _SELECT + " WHERE m.number = " + _ALIASED
_NEWEST = _SELECT + " WHERE m.name = ? AND m.deleted_at IS NULL ORDER BY m.number DESC LIMIT 1"
_PAGE = _SELECT + " WHERE m.number < ? {filters} ORDER BY m.number DESC LIMIT ?"
_HAS_JOB = "SELECT 1 FROM models WHERE job_id = ?"
_MISSING = """
SELECT j.id FROM jobs j WHERE j.state = 'completed' AND j.result ->> 'path' IS NOT NULL
  AND j.id NOT IN (SELECT job_id FROM models) ORDER BY j.finished_at, j.number"""
_SET_ALIAS = """
INSERT INTO model_aliases (name, alias, model_number, user, set_at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (name, alias) DO UPDATE SET model_number = excluded.model_number,
  user = excluded.user, set_at = excluded.set_at"""
_DROP_ALIAS = "DELETE FROM model_aliases WHERE name = ? AND alias = ?"
_DROP_ALIASES = "DELETE FROM model_aliases WHERE model_number = ?"
_USERS = """
SELECT number FROM jobs WHERE model_id = :id AND finished_at IS NULL
UNION SELECT number FROM jobs INDEXED BY jobs_from_checkpoints
WHERE finished_at IS NULL AND spec ->> 'checkpoint' IS NOT NULL
  AND spec ->> 'checkpoint' GLOB :job || '@*' ORDER BY number"""
_BASED = """
SELECT name, version FROM models INDEXED BY adapters_on_models
WHERE base_model = ? AND id <> ? AND kind = 'adapter' AND deleted_at IS NULL ORDER BY number"""
_BURIED = _SELECT + " WHERE m.deleted_at IS NOT NULL AND m.gone_at IS NULL ORDER BY m.number"
_SET_PUBLIC = "UPDATE models SET is_public = ? WHERE number = ?"
_GONE = "UPDATE models SET gone_at = ? WHERE number = ?"
_BURY = "UPDATE models SET deleted_at = ? WHERE number = ? AND deleted_at IS NULL"


def register(
    connection: sqlite3.Connection, job: Job, result: Mapping[str, Any] | None, now: float
) -> str | None:
    """Register the model a job has left; returns its key, None when it left none.

    A name or version that is not the one asked for is told in a warning of the job."""
    kind = KIND_OF_RESULT.get(str((result or {}).get("kind")))
    if result is None or kind is None or connection.execute(_HAS_JOB, (job.id,)).fetchone():
        return None
    spec, trained_on = job.spec, _trained_on(connection, job, kind, result)
    base = str(result.get("base_model") or spec.model_name)
    asked = spec.save_name or spec.lora_name
    wanted = model_name(asked) if asked else default_name(base, job.number)
    place = find_place(connection, wanted, spec.lora_version or "", job.user)
    if place.warning is not None:
        jobs.warn(connection, job.number, place.warning)
    row = {
        "id": new_job_id(now),
        "name": place.name,
        "version": place.version,
        "user": job.user,
        "kind": kind.value,
        "base_model": base,
        "job_id": job.id,
        "job_number": job.number,
        "attempt_number": job.attempt_number,
        "parent_id": spec.model_id,
        "dataset": trained_on["version"],
        "dataset_sha256": trained_on["sha256"],
        "config": spec.to_json(),
        "metrics": json.dumps(trained_on["figures"]),
        "path": result["path"],
        "size_bytes": result.get("size_bytes") or 0,
        "files": json.dumps(result.get("files") or []),
        "is_public": int(job.request is not None and job.request.data.get("is_public") is True),
        "created_at": now,
    }
    connection.execute(_INSERT, row)
    return f"{place.name}@{place.version}"


def _trained_on(
    connection: sqlite3.Connection, job: Job, kind: ModelKind, result: Mapping[str, Any]
) -> dict[str, Any]:
    """Dataset and figures of the training behind a model; merging is none."""
    parent = None
    if kind is ModelKind.MERGED and job.spec.model_id is not None:
        parent = connection.execute(_BY_ID, (job.spec.model_id,)).fetchone()
    if parent is not None:
        known = _model(parent)
        trained = (known.dataset, known.dataset_sha256, dict(known.metrics))
    else:
        said = result.get("dataset") or {}
        version = said.get("version") or job.spec.dataset_version
        trained = (version, said.get("sha256"), figures(result))
    return dict(zip(("version", "sha256", "figures"), trained, strict=True))


def left(connection: sqlite3.Connection, job: Job, verdict: Verdict, now: float) -> dict[str, Any]:
    """Register what a job has left that completes now; returns what its event says of it."""
    if verdict.outcome is not Outcome.COMPLETED:
        return {}
    key = register(connection, job, verdict.result, now)
    if key is None:
        return {}
    place = (job.number, job.attempt_number)
    events.append(connection, now, EventType.MODEL_REGISTERED, *place, {"model": key})
    return {"model": key}


def register_missing(connection: sqlite3.Connection) -> int:
    """Register what completed jobs left and nobody knows of; returns how many models."""
    missing = [row["id"] for row in connection.execute(_MISSING)]
    found = [jobs.find(connection, job_id) for job_id in missing]
    keys = [register(connection, j, j.result, j.finished_at or j.created_at) for j in found]
    return sum(key is not None for key in keys)


def find(connection: sqlite3.Connection, key: str) -> Model:
    """A model by number, id, `name@version`, `name@alias`, or name (the newest there is).

    Raises ModelNotFound. One that was deleted is found by all but its name alone."""
    row = _row(connection, key)
    if row is None:
        raise ModelNotFound(f"there is no model {key!r}", hint="GET /models lists the models")
    return _model(row)


def _row(connection: sqlite3.Connection, key: str) -> Any:
    if key.isascii() and key.isdigit() and len(key) < 19:
        return connection.execute(_BY_NUMBER, (int(key),)).fetchone()
    if is_job_id(key.lower()):
        return connection.execute(_BY_ID, (key.lower(),)).fetchone()
    name, at, version = key.partition("@")
    if not at:
        return connection.execute(_NEWEST, (name,)).fetchone()
    by_version = connection.execute(_BY_VERSION, (name, version_name(version))).fetchone()
    return by_version or connection.execute(_BY_ALIAS, (name, version)).fetchone()


def by_job(connection: sqlite3.Connection, job_id: str) -> Model | None:
    """The model a job left, if it left one."""
    row = connection.execute(_BY_JOB, (job_id,)).fetchone()
    return None if row is None else _model(row)


def page(
    connection: sqlite3.Connection,
    *,
    name: str | None = None,
    user: str | None = None,
    kind: ModelKind | None = None,
    with_deleted: bool = False,
    before: int = LAST,
    limit: int,
) -> list[Model]:
    """Models with a number below `before`, newest first."""
    filters, values = "" if with_deleted else " AND m.deleted_at IS NULL", []
    for column, wanted in (("name", name), ("user", user), ("kind", kind and kind.value)):
        if wanted is not None:
            filters += f" AND m.{column} = ?"
            values.append(wanted)
    rows = connection.execute(_PAGE.format(filters=filters), (before, *values, limit))
    return [_model(row) for row in rows]


def set_alias(
    connection: sqlite3.Connection, model: Model, alias: str, user: str, now: float
) -> None:
    """Have `name@alias` mean this model. Raises Conflict when that is a version's name."""
    if connection.execute(_BY_VERSION, (model.name, alias)).fetchone() is not None:
        raise Conflict(f"{model.name}@{alias} is a version", hint="choose another alias")
    connection.execute(_SET_ALIAS, (model.name, alias, model.number, user, now))


def drop_alias(connection: sqlite3.Connection, name: str, alias: str) -> bool:
    """Forget an alias; False when there was none."""
    return connection.execute(_DROP_ALIAS, (name, alias)).rowcount == 1


def set_public(connection: sqlite3.Connection, model: Model, *, is_public: bool) -> None:
    """Let everybody use a model, or not."""
    connection.execute(_SET_PUBLIC, (int(is_public), model.number))


def bury(connection: sqlite3.Connection, model: Model, now: float) -> bool:
    """Keep the record of a model whose files go; False when that was done before."""
    connection.execute(_DROP_ALIASES, (model.number,))
    return connection.execute(_BURY, (now, model.number)).rowcount == 1


def bury_of_job(connection: sqlite3.Connection, job_id: str, now: float) -> None:
    """Keep the record of a model that goes with its job."""
    model = by_job(connection, job_id)
    if model is not None:
        bury(connection, model, now)


def users(connection: sqlite3.Connection, model: Model) -> list[int]:
    """Numbers of the jobs that are not over and use a model or a checkpoint of its job."""
    names = {"id": model.id, "job": model.job_id}
    return [row["number"] for row in connection.execute(_USERS, names)]


def based_on(connection: sqlite3.Connection, model: Model) -> list[str]:
    """Keys of the LoRA adapters that are put on a model's own weights."""
    rows = connection.execute(_BASED, (model.path, model.id))
    return [f"{row['name']}@{row['version']}" for row in rows]


def buried(connection: sqlite3.Connection) -> list[Model]:
    """Deleted models whose files may still be there."""
    return [_model(row) for row in connection.execute(_BURIED)]


def mark_gone(connection: sqlite3.Connection, model: Model, now: float) -> None:
    """Record that the files of a deleted model are gone."""
    connection.execute(_GONE, (now, model.number))


def _model(row: sqlite3.Row) -> Model:
    return Model(
        id=row["id"],
        number=row["number"],
        name=row["name"],
        version=row["version"],
        user=row["user"],
        kind=ModelKind(row["kind"]),
        base_model=row["base_model"],
        job_id=row["job_id"],
        job_number=row["job_number"],
        attempt=row["attempt_number"],
        parent_id=row["parent_id"],
        dataset=row["dataset"],
        dataset_sha256=row["dataset_sha256"],
        config=json.loads(row["config"]),
        metrics=json.loads(row["metrics"]),
        path=row["path"],
        size_bytes=row["size_bytes"],
        files=tuple(json.loads(row["files"])),
        is_public=bool(row["is_public"]),
        created_at=row["created_at"],
        deleted_at=row["deleted_at"],
        aliases=tuple(sorted(json.loads(row["aliases"]))),
    )
