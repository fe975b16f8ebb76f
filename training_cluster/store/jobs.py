"""Jobs in SQLite: insert, find, page, count, and the guarded moves between states."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from typing import Any

from training_cluster.domain.errors import JobNotFound, StaleTransition
from training_cluster.domain.event import EventType
from training_cluster.domain.ids import is_job_id
from training_cluster.domain.job import (
    Job,
    JobError,
    JobState,
    Progress,
    QueuedJob,
    check_transition,
)
from training_cluster.domain.spec import JobSpec
from training_cluster.domain.webhook import Webhook
from training_cluster.store import events, webhooks

_INSERT = """
INSERT INTO jobs (id, kind, state, user, spec, priority, gpus, min_memory_bytes, depends_on,
                  created_at, warnings, idempotency_key, request_sha256)
VALUES (?, ?, 'queued', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_BY_ID = "SELECT * FROM jobs WHERE id = ?"
_BY_NUMBER = "SELECT * FROM jobs WHERE number = ?"
_BY_IDEMPOTENCY_KEY = """
SELECT id, request_sha256 FROM jobs WHERE user = ? AND idempotency_key = ?"""
_MOVE = "UPDATE jobs SET state = ? WHERE number = ? AND state = ? AND attempt_number = ?"
_PAGE = "SELECT * FROM jobs WHERE number < ? {filters} ORDER BY number DESC LIMIT ?"
_QUEUED = """
SELECT number, id, priority, gpus, min_memory_bytes, not_before, depends_on
FROM jobs INDEXED BY jobs_in_queue_order
WHERE state = 'queued' ORDER BY priority DESC, number LIMIT ?"""
_DEPENDENCIES = """
SELECT d.number, d.state FROM json_each(?) AS wanted JOIN jobs d ON d.id = wanted.value"""
_BROKEN = """
SELECT j.id, min(d.number) AS culprit
FROM jobs j INDEXED BY jobs_with_dependencies, json_each(j.depends_on) AS wanted
JOIN jobs d ON d.id = wanted.value
WHERE j.state = 'queued' AND j.depends_on <> '[]' AND d.state IN ('failed', 'cancelled')
GROUP BY j.number"""
_AHEAD = """
SELECT (SELECT coalesce(sum(jobs), 0) FROM job_counts WHERE state = 'queued' AND priority > ?1)
     + (SELECT count(*) FROM jobs WHERE state = 'queued' AND priority = ?1 AND number < ?2)"""
_AHEAD_OF_NEWEST = """
SELECT coalesce(sum(jobs), 0) - 1 FROM job_counts WHERE state = 'queued' AND priority >= ?"""
_COUNTS = "SELECT state, sum(jobs) AS jobs FROM job_counts GROUP BY state HAVING sum(jobs) > 0"
_FINISH_UNSTARTED = """
UPDATE jobs SET state = ?, finished_at = ?, error_code = ?, error_message = ?, error_hint = ?
WHERE number = ? AND state = ? AND attempt_number = ?"""
_DURATIONS = """
SELECT finished_at - started_at AS seconds FROM jobs
WHERE state = 'completed' AND started_at IS NOT NULL ORDER BY number DESC LIMIT ?"""

LAST = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job about to be acknowledged. `warnings` are sentences for its owner."""

    id: str
    user: str
    spec: JobSpec
    created_at: float
    warnings: tuple[str, ...] = ()
    idempotency_key: str | None = None
    request_sha256: str | None = None
    webhook: Webhook | None = None


def insert(connection: sqlite3.Connection, new: NewJob) -> int:
    """Put a job, with its webhook, into the queue and `job.queued` into the log; returns its
    number."""
    spec = new.spec
    cursor = connection.execute(
        _INSERT,
        (
            new.id,
            spec.kind,
            new.user,
            spec.to_json(),
            spec.priority,
            spec.gpus,
            spec.min_memory_bytes,
            json.dumps(spec.depends_on),
            new.created_at,
            json.dumps(new.warnings),
            new.idempotency_key,
            new.request_sha256,
        ),
    )
    number = cursor.lastrowid
    assert number is not None
    if new.webhook is not None:
        webhooks.insert(connection, new.webhook, number)
    data = {"user": new.user, "priority": spec.priority}
    events.append(connection, new.created_at, EventType.JOB_QUEUED, number, None, data)
    return number


def find(connection: sqlite3.Connection, key: str) -> Job:
    """A job by its id or its number. Raises JobNotFound."""
    row = None
    if key.isascii() and key.isdigit() and len(key) < 19:
        row = connection.execute(_BY_NUMBER, (int(key),)).fetchone()
    elif is_job_id(key.lower()):
        row = connection.execute(_BY_ID, (key.lower(),)).fetchone()
    if row is None:
        raise JobNotFound(f"there is no job {key!r}", hint="GET /train lists the jobs")
    return _job(row)


def by_idempotency_key(
    connection: sqlite3.Connection, user: str, key: str
) -> tuple[str, str] | None:
    """Id and request hash of the job a user made with this Idempotency-Key, if any."""
    row = connection.execute(_BY_IDEMPOTENCY_KEY, (user, key)).fetchone()
    return (row["id"], row["request_sha256"]) if row else None


def page(
    connection: sqlite3.Connection,
    *,
    state: JobState | None,
    user: str | None,
    before: int = LAST,
    limit: int,
) -> list[Job]:
    """Jobs with a number below `before`, newest first."""
    filters, values = "", []
    if state is not None:
        filters += " AND state = ?"
        values.append(state.value)
    if user is not None:
        filters += " AND user = ?"
        values.append(user)
    rows = connection.execute(_PAGE.format(filters=filters), (before, *values, limit))
    return [_job(row) for row in rows]


def queued(connection: sqlite3.Connection, limit: int) -> list[QueuedJob]:
    """The head of the queue in queue order, with what each job still depends on."""
    return [_queued(connection, row) for row in connection.execute(_QUEUED, (limit,))]


def _queued(connection: sqlite3.Connection, row: sqlite3.Row) -> QueuedJob:
    waits_for, broken_by = _dependencies(connection, row["depends_on"])
    return QueuedJob(
        id=row["id"],
        number=row["number"],
        priority=row["priority"],
        gpus=row["gpus"],
        min_memory_bytes=row["min_memory_bytes"],
        not_before=row["not_before"],
        waits_for=waits_for,
        broken_by=broken_by,
    )


def _dependencies(
    connection: sqlite3.Connection, wanted: str
) -> tuple[tuple[int, ...], int | None]:
    waits_for: list[int] = []
    broken_by = None
    if wanted == "[]":
        return (), None
    for number, state in connection.execute(_DEPENDENCIES, (wanted,)):
        if state in (JobState.FAILED, JobState.CANCELLED):
            broken_by = broken_by or number
        elif state != JobState.COMPLETED:
            waits_for.append(number)
    return tuple(waits_for), broken_by


def broken(connection: sqlite3.Connection) -> list[tuple[str, int]]:
    """Queued jobs that can never start, each with the number of the job that did not complete."""
    return [(row["id"], row["culprit"]) for row in connection.execute(_BROKEN)]


def jobs_ahead(connection: sqlite3.Connection, priority: int, number: int) -> int:
    """How many queued jobs come before this one."""
    count: int = connection.execute(_AHEAD, (priority, number)).fetchone()[0]
    return count


def jobs_ahead_of_newest(connection: sqlite3.Connection, priority: int) -> int:
    """As `jobs_ahead` for the queued job with the highest number, without counting rows."""
    count: int = connection.execute(_AHEAD_OF_NEWEST, (priority,)).fetchone()[0]
    return count


def counts(connection: sqlite3.Connection) -> dict[JobState, int]:
    """How many jobs are in each state, from the counters."""
    return {JobState(row["state"]): row["jobs"] for row in connection.execute(_COUNTS)}


def recent_durations(connection: sqlite3.Connection, most: int = 20) -> list[float]:
    """Seconds the latest completed jobs took from first start to end."""
    return [row["seconds"] for row in connection.execute(_DURATIONS, (most,))]


def move(connection: sqlite3.Connection, job: Job, after: JobState) -> None:
    """Move a job on, if it is still where `job` says. Raises StaleTransition."""
    check_transition(job.id, job.state, after)
    values = (after.value, job.number, job.state.value, job.attempt_number)
    guard(connection.execute(_MOVE, values), job)


def end_unstarted(
    connection: sqlite3.Connection, job: Job, after: JobState, now: float, error: JobError | None
) -> None:
    """End a job that holds no device: cancelled by somebody, or failed by its dependency."""
    check_transition(job.id, job.state, after)
    fields = (error.code, error.message, error.hint) if error else (None, None, None)
    guarded = (job.number, job.state.value, job.attempt_number)
    guard(connection.execute(_FINISH_UNSTARTED, (after.value, now, *fields, *guarded)), job)
    data = {"code": error.code, "message": error.message} if error else {}
    kind = EventType.JOB_FAILED if error else EventType.JOB_CANCELLED
    events.append(connection, now, kind, job.number, None, data)


def guard(cursor: sqlite3.Cursor, job: Job) -> None:
    """Raise StaleTransition when a guarded update found nothing: somebody was first."""
    if cursor.rowcount != 1:
        raise StaleTransition(f"job {job.number} is no longer {job.state}")


def _loads(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def _job(row: sqlite3.Row) -> Job:
    progress = _loads(row["progress"])
    code = row["error_code"]
    return Job(
        id=row["id"],
        number=row["number"],
        state=JobState(row["state"]),
        user=row["user"],
        spec=JobSpec.from_json(row["spec"]),
        priority=row["priority"],
        attempt_number=row["attempt_number"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        not_before=row["not_before"],
        progress=None if progress is None else Progress(**progress),
        metrics=_loads(row["metrics"]),
        error=None if code is None else JobError(code, row["error_message"], row["error_hint"]),
        result=_loads(row["result"]),
        warnings=tuple(json.loads(row["warnings"])),
    )
