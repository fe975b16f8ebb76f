"""Finished jobs by age, the removal of their rows, and what of them was pruned."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_FINISHED = """
SELECT number, id, user, state, finished_at, result, pruned FROM jobs
WHERE finished_at IS NOT NULL AND finished_at <= :before AND number > :after
  AND (:user IS NULL OR user = :user) AND (:state IS NULL OR state = :state)
ORDER BY number LIMIT :limit"""
_NEEDED = """
SELECT DISTINCT d.value AS id FROM jobs j, json_each(j.depends_on) d
WHERE j.finished_at IS NULL AND j.depends_on <> '[]'
UNION SELECT m.job_id FROM jobs j JOIN models m ON m.id = j.model_id
WHERE j.finished_at IS NULL
UNION SELECT base.job_id FROM models base
WHERE base.kind <> 'adapter' AND EXISTS (
  SELECT 1 FROM models m INDEXED BY adapters_on_models
  WHERE m.base_model = base.path AND m.kind = 'adapter' AND m.deleted_at IS NULL)"""
_LENT = """
SELECT DISTINCT substr(spec ->> 'checkpoint', 1, 36) AS id
FROM jobs INDEXED BY jobs_from_checkpoints
WHERE finished_at IS NULL AND spec ->> 'checkpoint' IS NOT NULL"""
_ATTEMPTS = "SELECT directory FROM attempts WHERE job_number = ? ORDER BY number"
_MARK = """
UPDATE jobs SET pruned = json_patch(coalesce(pruned, '{}'), ?)
WHERE number = ? AND finished_at IS NOT NULL"""
_STILL_FINISHED = "SELECT 1 FROM jobs WHERE number = ? AND finished_at IS NOT NULL"
_UNTOLD = """
SELECT 1 FROM deliveries WHERE job_number = ? AND state = 'pending'
UNION ALL SELECT 1 FROM tracker_runs WHERE job_number = ? AND state IN ('waiting', 'open')"""
_LINES = """
DELETE FROM metric_lines WHERE sequence IN (
  SELECT sequence FROM metric_lines WHERE job_number = ? ORDER BY sequence LIMIT ?)"""
_ROWS = (
    "DELETE FROM deliveries WHERE job_number = :job OR webhook_id IN "
    "(SELECT id FROM webhooks WHERE job_number = :job) OR event_sequence IN "
    "(SELECT sequence FROM events WHERE job_number = :job)",
    "DELETE FROM events WHERE job_number = :job",
    "DELETE FROM metric_lines WHERE job_number = :job",
    "DELETE FROM tracker_runs WHERE job_number = :job",
    "DELETE FROM leases WHERE job_number = :job",
    "DELETE FROM attempts WHERE job_number = :job",
)
_WEBHOOKS = "DELETE FROM webhooks WHERE job_number = ? RETURNING id"
_JOB = "DELETE FROM jobs WHERE number = ?"
_DELIVERIES = """
DELETE FROM deliveries WHERE id IN (
  SELECT d.id FROM deliveries d LEFT JOIN jobs j ON j.number = d.job_number
  WHERE d.state <> 'pending' AND d.created_at < ?
    AND (d.job_number IS NULL OR j.finished_at < ?) ORDER BY d.id LIMIT ?)"""
_COUNT_DELIVERIES = """
SELECT count(*) FROM deliveries d LEFT JOIN jobs j ON j.number = d.job_number
WHERE d.state <> 'pending' AND d.created_at < ? AND (d.job_number IS NULL OR j.finished_at < ?)"""
_KNOWN = "SELECT 1 FROM jobs WHERE id = ?"
_ENDED_RUNS = "SELECT run_id FROM tracker_runs WHERE tracker = 'wandb' AND state = 'ended'"


@dataclass(frozen=True, slots=True)
class FinishedJob:
    """A job that is over. `result` is the path of its model, if it left one."""

    number: int
    id: str
    user: str
    state: str
    finished_at: float
    result: str | None
    pruned: Mapping[str, Any]
    directories: tuple[str, ...]


def finished(
    connection: sqlite3.Connection,
    before: float,
    *,
    after: int,
    user: str | None,
    state: str | None,
    limit: int,
) -> list[FinishedJob]:
    """Jobs that ended at `before` or earlier (Unix seconds), by number, behind number `after`."""
    values = {"before": before, "after": after, "user": user, "state": state, "limit": limit}
    return [_job(connection, row) for row in connection.execute(_FINISHED, values)]


def _job(connection: sqlite3.Connection, row: sqlite3.Row) -> FinishedJob:
    result = json.loads(row["result"]) if row["result"] else {}
    directories = connection.execute(_ATTEMPTS, (row["number"],))
    return FinishedJob(
        number=row["number"],
        id=row["id"],
        user=row["user"],
        state=row["state"],
        finished_at=row["finished_at"],
        result=result.get("path"),
        pruned=json.loads(row["pruned"]) if row["pruned"] else {},
        directories=tuple(each["directory"] for each in directories),
    )


def known(connection: sqlite3.Connection, job_ids: set[str]) -> set[str]:
    """Those of the ids that are a job's."""
    return {job for job in job_ids if connection.execute(_KNOWN, (job,)).fetchone()}


def needed(connection: sqlite3.Connection) -> set[str]:
    """Ids of jobs on which jobs that are not over depend, or whose models are used by such jobs or
    by LoRA adapters that are put on them."""
    return {row["id"] for row in connection.execute(_NEEDED)} | lent(connection)


def lent(connection: sqlite3.Connection) -> set[str]:
    """Ids of jobs of whose checkpoints jobs that are not over make use."""
    return {row["id"] for row in connection.execute(_LENT)}


def mark(connection: sqlite3.Connection, job_number: int, kind: str, at: float, freed: int) -> bool:
    """Put on a job that something of it was pruned; False when it is not over any more."""
    patch = json.dumps({kind: {"at": at, "bytes": freed}})
    return connection.execute(_MARK, (patch, job_number)).rowcount == 1


def remove_lines(connection: sqlite3.Connection, job_number: int, most: int) -> int:
    """Remove some metric lines of a finished job; returns how many."""
    if connection.execute(_STILL_FINISHED, (job_number,)).fetchone() is None:
        return 0
    return connection.execute(_LINES, (job_number, most)).rowcount


def is_untold(connection: sqlite3.Connection, job_number: int) -> bool:
    """Whether a webhook or a tracker is still to be told of a job."""
    return connection.execute(_UNTOLD, (job_number, job_number)).fetchone() is not None


def remove_job(connection: sqlite3.Connection, job_number: int) -> list[str] | None:
    """Remove all rows of a finished job; returns the ids of the webhooks that went with it, None
    when it is not over any more or somebody is still to be told of it."""
    over = connection.execute(_STILL_FINISHED, (job_number,)).fetchone()
    if over is None or is_untold(connection, job_number):
        return None
    for statement in _ROWS:
        connection.execute(statement, {"job": job_number})
    hooks = [row["id"] for row in connection.execute(_WEBHOOKS, (job_number,))]
    connection.execute(_JOB, (job_number,))
    return hooks


def count_deliveries(connection: sqlite3.Connection, before: float) -> int:
    """How many deliveries of finished jobs, or of none, came to their end before a time."""
    count: int = connection.execute(_COUNT_DELIVERIES, (before, before)).fetchone()[0]
    return count


def remove_deliveries(connection: sqlite3.Connection, before: float, most: int) -> int:
    """Remove some of them; returns how many. Those of jobs that go on stay: their numbers count."""
    return connection.execute(_DELIVERIES, (before, before, most)).rowcount


def ended_wandb_runs(connection: sqlite3.Connection) -> set[str]:
    """Ids of the runs that W&B has taken to their end."""
    return {row["run_id"] for row in connection.execute(_ENDED_RUNS) if row["run_id"]}
