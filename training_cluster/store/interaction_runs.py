"""Recorded interactions in SQLite."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from training_cluster.domain.interaction import InteractionRun, InteractionStatus
from training_cluster.domain.session_errors import RunNotFound

_INSERT = """
INSERT INTO interaction_runs
  (id, user, interaction, environment, model, status, messages, output, details, created_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_ONE = "SELECT * FROM interaction_runs WHERE id = ? AND (?2 IS NULL OR user = ?2)"
_PAGE = """
SELECT * FROM interaction_runs
WHERE (:user IS NULL OR user = :user)
  AND (:interaction IS NULL OR interaction IN (SELECT value FROM json_each(:interaction)))
  AND (:status IS NULL OR status IN (SELECT value FROM json_each(:status)))
  AND (:model IS NULL OR model IN (SELECT value FROM json_each(:model)))
  AND (:environment IS NULL OR environment IN (SELECT value FROM json_each(:environment)))
  AND (:tag IS NULL OR EXISTS
       (SELECT 1 FROM json_each(details, '$.tags') AS tag
        WHERE tag.value IN (SELECT value FROM json_each(:tag))))
ORDER BY number DESC LIMIT :limit OFFSET :offset"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which runs are wanted: those that have one of the values of each field, where it has any.
    `user` is the owner."""

    user: str | None = None
    interaction: Sequence[str] = ()
    status: Sequence[InteractionStatus] = ()
    model: Sequence[str] = ()
    environment: Sequence[str] = ()
    tag: Sequence[str] = ()


def insert(connection: sqlite3.Connection, runs: Sequence[InteractionRun]) -> None:
    """Add runs, all or none."""
    connection.executemany(_INSERT, map(_values, runs))


def find(connection: sqlite3.Connection, run_id: str, of_user: str | None) -> InteractionRun:
    """A run by id. Raises RunNotFound, also for one that is not `of_user`'s; None for any."""
    row = connection.execute(_ONE, (run_id.lower(), of_user)).fetchone()
    if row is None:
        raise unknown(run_id)
    return run_of(row)


def unknown(run_id: str) -> RunNotFound:
    """The error for an id that names no run."""
    hint = "POST /api/v1/runs records one, GET /api/v1/runs lists your own"
    return RunNotFound(f"there is no run {run_id[:64]!r}", hint=hint)


def page(
    connection: sqlite3.Connection, wanted: RunFilter, limit: int, offset: int
) -> list[InteractionRun]:
    """Runs, newest first."""
    fields = ("interaction", "status", "model", "environment", "tag")
    values = {name: _listed(getattr(wanted, name)) for name in fields}
    values |= {"user": wanted.user, "limit": limit, "offset": offset}
    return [run_of(row) for row in connection.execute(_PAGE, values)]


def _listed(values: Sequence[str]) -> Any:
    return json.dumps([*values]) if values else None


def run_of(row: sqlite3.Row) -> InteractionRun:
    """A selected run."""
    return InteractionRun(
        id=row["id"],
        user=row["user"],
        interaction=row["interaction"],
        environment=row["environment"],
        model=row["model"],
        status=InteractionStatus(row["status"]),
        messages=tuple(json.loads(row["messages"])),
        output=row["output"],
        created_at=row["created_at"],
        details=json.loads(row["details"]),
    )


def _values(run: InteractionRun) -> tuple[Any, ...]:
    return (
        run.id,
        run.user,
        run.interaction,
        run.environment,
        run.model,
        run.status.value,
        json.dumps([dict(message) for message in run.messages], ensure_ascii=False),
        run.output,
        json.dumps(dict(run.details), ensure_ascii=False),
        run.created_at,
    )
