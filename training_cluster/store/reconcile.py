"""Brings a salvaged or restored database up to what the job directories show, row by row."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from training_cluster.domain.event import EventType
from training_cluster.domain.job import JobState, Outcome, Verdict
from training_cluster.store import events, models
from training_cluster.store.raw_rows import drop_orphans, insert_row

_JOB = "SELECT number, id, state, attempt_number FROM jobs WHERE id = ?"
_ACTIVE = """
SELECT j.id, j.number, j.attempt_number FROM jobs j
WHERE j.state IN ('preparing', 'running', 'stopping')"""
_ATTEMPT = "SELECT ended_at FROM attempts WHERE job_number = ? AND number = ?"
_END_ATTEMPT = """
UPDATE attempts SET ended_at = ?, outcome = ?, exit_code = ?
WHERE job_number = ? AND number = ? AND ended_at IS NULL"""
_RELEASE = """
UPDATE leases SET released_at = ? WHERE job_number = ? AND attempt_number = ?
  AND released_at IS NULL"""
_REOPEN = """
UPDATE jobs SET state = 'running', attempt_number = ?, finished_at = NULL, error_code = NULL,
                error_message = NULL, error_hint = NULL, result = NULL, not_before = NULL,
                started_at = coalesce(started_at, ?)
WHERE number = ?"""
_REQUEUE = """
UPDATE jobs SET state = 'queued', attempt_number = ?, finished_at = NULL, error_code = NULL,
                error_message = NULL, error_hint = NULL, result = NULL
WHERE number = ?"""
_FINISH = """
UPDATE jobs SET state = ?, attempt_number = ?, finished_at = ?, error_code = ?,
                error_message = ?, error_hint = ?, result = ?
WHERE number = ?"""
_COUNT_ATTEMPTS = """
DELETE FROM attempt_counts;
INSERT INTO attempt_counts (outcome, attempts)
  SELECT outcome, count(*) FROM attempts WHERE outcome IS NOT NULL GROUP BY outcome;
UPDATE delivery_counts SET deliveries =
  (SELECT count(*) FROM deliveries d WHERE d.state = delivery_counts.state);"""
_SEQUENCE = "SELECT seq FROM sqlite_sequence WHERE name = ?"


@dataclass(frozen=True, slots=True)
class KnownJob:
    """A job as the database knows it before it is brought up to date."""

    number: int
    id: str
    state: JobState
    attempt_number: int


def find(connection: sqlite3.Connection, job_id: str) -> KnownJob | None:
    """A job by its id."""
    row = connection.execute(_JOB, (job_id,)).fetchone()
    if row is None:
        return None
    return KnownJob(row["number"], row["id"], JobState(row["state"]), row["attempt_number"])


def active(connection: sqlite3.Connection) -> list[KnownJob]:
    """The jobs that hold devices, as the database has it."""
    rows = connection.execute(_ACTIVE).fetchall()
    return [KnownJob(r["number"], r["id"], JobState.RUNNING, r["attempt_number"]) for r in rows]


def add_job(connection: sqlite3.Connection, record: Mapping[str, Any]) -> KnownJob:
    """Insert the job of a record as queued; it gets a new number when its own is another's.

    Raises sqlite3.IntegrityError and LookupError for a record that makes no sense."""
    row = {**record["job"], "state": "queued", "attempt_number": 0, "finished_at": None}
    row |= dict.fromkeys(("error_code", "error_message", "error_hint", "result", "not_before"))
    if not insert_row(connection, "jobs", row):
        row |= {"number": None, "idempotency_key": None}
        insert_row(connection, "jobs", row)
    found = find(connection, row["id"])
    assert found is not None
    return found


def add_model(connection: sqlite3.Connection, record: Mapping[str, Any]) -> None:
    """Insert the model of a record with its aliases, unless it or its number is known."""
    row = record.get("model")
    with contextlib.suppress(sqlite3.Error, LookupError, TypeError):
        if not row or insert_row(connection, "models", row) == 0:
            return
        for alias in record.get("aliases", ()):
            insert_row(connection, "model_aliases", alias)


def add_attempt(
    connection: sqlite3.Connection,
    job: KnownJob,
    number: int,
    directory: str,
    row: Mapping[str, Any],
) -> None:
    """Insert an attempt, not ended, unless it is known. `row` is what a record says of it."""
    if connection.execute(_ATTEMPT, (job.number, number)).fetchone() is not None:
        return
    values = {**row, "job_number": job.number, "number": number, "directory": directory}
    values |= {"ended_at": None, "outcome": None, "exit_code": None}
    values["log_offset"] = 0
    try:
        insert_row(connection, "attempts", values)
    except sqlite3.IntegrityError:
        insert_row(connection, "attempts", values | {"master_port": None})


def lease(
    connection: sqlite3.Connection, job: KnownJob, number: int, rows: list[Mapping[str, Any]]
) -> None:
    """Have a living attempt hold its devices again; one that another holds is left to it."""
    for row in rows:
        values = {k: v for k, v in row.items() if k != "rowid"}
        values |= {"job_number": job.number, "attempt_number": number, "released_at": None}
        with contextlib.suppress(sqlite3.IntegrityError):
            insert_row(connection, "leases", values)


def is_open(connection: sqlite3.Connection, job: KnownJob, number: int) -> bool:
    """Whether an attempt is known and has not ended."""
    row = connection.execute(_ATTEMPT, (job.number, number)).fetchone()
    return row is not None and row["ended_at"] is None


def end_attempt(
    connection: sqlite3.Connection,
    job: KnownJob,
    number: int,
    outcome: Outcome,
    code: int | None,
    ended_at: float,
) -> None:
    """Record how an attempt ended, unless that is known."""
    key = (job.number, number)
    connection.execute(_END_ATTEMPT, (ended_at, outcome.value, code, *key))
    connection.execute(_RELEASE, (ended_at, *key))


def reopen(connection: sqlite3.Connection, job: KnownJob, number: int, now: float) -> None:
    """Let the next daemon find this attempt under way: it looks what became of it."""
    connection.execute(_REOPEN, (number, now, job.number))


def requeue(connection: sqlite3.Connection, job: KnownJob, number: int) -> None:
    """Back into the queue, its last attempt being `number`."""
    connection.execute(_REQUEUE, (number, job.number))


def finish(
    connection: sqlite3.Connection, job: KnownJob, number: int, verdict: Verdict, ended_at: float
) -> JobState:
    """Move a job to where its last attempt's verdict leads; nobody is told of it again."""
    state = _STATES.get(verdict.outcome, JobState.FAILED)
    error = verdict.error if state is JobState.FAILED else None
    fields = (error.code, error.message, error.hint) if error else (None, None, None)
    result = None if verdict.result is None else json.dumps(verdict.result)
    at = None if state is JobState.PAUSED else ended_at
    connection.execute(_FINISH, (state.value, number, at, *fields, result, job.number))
    return state


_STATES = {
    Outcome.COMPLETED: JobState.COMPLETED,
    Outcome.CANCELLED: JobState.CANCELLED,
    **{outcome: JobState.PAUSED for outcome in Outcome if outcome.value == "paused"},
}


def settle(
    connection: sqlite3.Connection, now: float, kind: EventType, data: dict[str, Any]
) -> int:
    """Register models nobody knows of, remove what refers to nothing, count anew, and put the fact
    into the log; returns how many rows were removed."""
    models.register_missing(connection)
    dropped = sum(drop_orphans(connection).values())
    for statement in _COUNT_ATTEMPTS.split(";"):
        connection.execute(statement)
    events.append(connection, now, kind, data={**data, "dropped_rows": dropped})
    return dropped


def sequence(connection: sqlite3.Connection, table: str) -> int:
    """The highest number a table has given out."""
    row = connection.execute(_SEQUENCE, (table,)).fetchone()
    return 0 if row is None else int(row["seq"])


def raise_sequence(connection: sqlite3.Connection, table: str, least: int) -> None:
    """Have the next row of a table get a number above `least`."""
    if sequence(connection, table) >= least:
        return
    connection.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
    connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, least))
