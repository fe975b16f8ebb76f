"""Jobs in SQLite: insert, find, page, count, and the guarded moves between states."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from training_cluster.domain.dialect import DialectRequest
from training_cluster.domain.errors import JobNotFound, StaleTransition
from training_cluster.domain.event import EventType
from training_cluster.domain.ids import is_job_id
from training_cluster.domain.job import (
    Job,
    JobError,
    JobState,
    QueuedJob,
    check_transition,
)
from training_cluster.domain.spec import JobSpec
from training_cluster.domain.webhook import Webhook
from training_cluster.store import events, job_rows, webhooks
from training_cluster.store.job_rows import SELECT

_INSERT = """
INSERT INTO jobs (id, kind, state, user, spec, priority, gpus, min_memory_bytes, depends_on,
                  created_at, warnings, idempotency_key, request_sha256, disk_bytes, request,
                  dataset_id, dataset_pending, needs_device, model_id)
VALUES (?, ?, 'queued', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_BY_ID = SELECT + " WHERE id = ?"
_BY_NUMBER = SELECT + " WHERE number = ?"
_BY_IDEMPOTENCY_KEY = """
SELECT id, request_sha256 FROM jobs WHERE user = ? AND idempotency_key = ?"""
_MOVE = "UPDATE jobs SET state = ? WHERE number = ? AND state = ? AND attempt_number = ?"
_PAGE = SELECT + " WHERE number < ? {filters} ORDER BY number DESC LIMIT ?"
_HAS_METADATA = """
  AND EXISTS (SELECT 1 FROM json_each(jobs.request, '$.data.metadata') AS word
              WHERE word.key = ? AND word.value = ?)"""
_HAS_NO_METADATA = " AND coalesce(request -> '$.data.metadata', 'null') IN ('null', '{}')"
IN_QUEUE = """
SELECT number, id, priority, iif(needs_device, gpus, 0) AS gpus, min_memory_bytes, not_before,
  depends_on, disk_bytes,
  CASE dataset_pending WHEN 1 THEN spec ->> 'dataset_version' END AS awaits_dataset
FROM jobs"""
_QUEUED = f"""{IN_QUEUE} INDEXED BY jobs_in_queue_order
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
_QUEUED_OF_USER = """
SELECT count(*) FROM jobs INDEXED BY jobs_by_user WHERE user = ? AND state = 'queued'"""
_FINISH_UNSTARTED = """
UPDATE jobs SET state = ?, finished_at = ?, error_code = ?, error_message = ?, error_hint = ?
WHERE number = ? AND state = ? AND attempt_number = ?"""
_DURATIONS = """
SELECT finished_at - started_at AS seconds FROM jobs
WHERE state = 'completed' AND finished_at >= started_at AND attempt_number = 1
  AND kind = 'train'
ORDER BY number DESC LIMIT ?"""

_WARN = """
UPDATE jobs SET warnings = json_insert(warnings, '$[#]', ?)
WHERE number = ? AND json_array_length(warnings) < ?"""

LAST = 2**62
_MOST_WARNINGS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job about to be acknowledged. `warnings` are sentences for its owner; `dataset_pending`
    tells that the dataset with `dataset_id` is still being checked."""

    id: str
    user: str
    spec: JobSpec
    created_at: float
    warnings: tuple[str, ...] = ()
    idempotency_key: str | None = None
    request_sha256: str | None = None
    disk_bytes: int = 0
    webhook: Webhook | None = None
    request: DialectRequest | None = None
    dataset_id: str | None = None
    dataset_pending: bool = False


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
            new.disk_bytes,
            new.request.to_json() if new.request else None,
            new.dataset_id,
            int(new.dataset_pending),
            spec.needs_device,
            spec.model_id,
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
    return job_rows.job(row)


def warn(connection: sqlite3.Connection, number: int, sentence: str) -> None:
    """Add a warning for a job's owner, up to 32 of them."""
    connection.execute(_WARN, (sentence, number, _MOST_WARNINGS))


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
    metadata: Mapping[str, str] | None = None,
    kind: str | None = None,
) -> list[Job]:
    """Jobs with a number below `before`, newest first; with `metadata` those whose dialect's
    request has all of these words, with an empty one those that have none."""
    filters = ""
    values: list[str] = []
    for column, wanted in (("state", state and state.value), ("user", user), ("kind", kind)):
        if wanted is not None:
            filters += f" AND {column} = ?"
            values.append(wanted)
    if metadata is not None and not metadata:
        filters += _HAS_NO_METADATA
    for word in (metadata or {}).items():
        filters += _HAS_METADATA
        values.extend(word)
    rows = connection.execute(_PAGE.format(filters=filters), (before, *values, limit))
    return [job_rows.job(row) for row in rows]


def queued(connection: sqlite3.Connection, limit: int) -> list[QueuedJob]:
    """The head of the queue in queue order, with what each job still depends on."""
    return [in_queue(connection, row) for row in connection.execute(_QUEUED, (limit,))]


def in_queue(connection: sqlite3.Connection, row: sqlite3.Row) -> QueuedJob:
    """A waiting job out of what `IN_QUEUE` selects."""
    waits_for, broken_by = dependencies(connection, row["depends_on"])
    return QueuedJob(
        id=row["id"],
        number=row["number"],
        priority=row["priority"],
        gpus=row["gpus"],
        min_memory_bytes=row["min_memory_bytes"],
        not_before=row["not_before"],
        waits_for=waits_for,
        broken_by=broken_by,
        disk_bytes=row["disk_bytes"],
        awaits_dataset=row["awaits_dataset"],
    )


def dependencies(connection: sqlite3.Connection, wanted: str) -> tuple[tuple[int, ...], int | None]:
    """Of the jobs with these ids (a JSON list) the numbers of those that are not over yet, and
    one that did not complete, if there is any."""
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


def has_queued(connection: sqlite3.Connection, user: str, most: int) -> bool:
    """Whether so many jobs of a user wait. Rows are counted only where it may be so."""
    if counts(connection).get(JobState.QUEUED, 0) < most:
        return False
    found: int = connection.execute(_QUEUED_OF_USER, (user,)).fetchone()[0]
    return found >= most


def recent_durations(connection: sqlite3.Connection, most: int = 20) -> list[float]:
    """Seconds the latest jobs that completed at the first try took, without any pause."""
    return [row["seconds"] for row in connection.execute(_DURATIONS, (most,))]


def move(connection: sqlite3.Connection, job: Job, after: JobState) -> None:
    """Move a job on, if it is still where `job` says. Raises StaleTransition."""
    check_transition(job.id, job.state, after)
    values = (after.value, job.number, job.state.value, job.attempt_number)
    guard(connection.execute(_MOVE, values), job)


def end_unstarted(
    connection: sqlite3.Connection,
    job: Job,
    after: JobState,
    now: float,
    error: JobError | None,
    by: str | None = None,
) -> None:
    """End a job that holds no device: cancelled by somebody, or failed by its dependency."""
    check_transition(job.id, job.state, after)
    fields = (error.code, error.message, error.hint) if error else (None, None, None)
    guarded = (job.number, job.state.value, job.attempt_number)
    guard(connection.execute(_FINISH_UNSTARTED, (after.value, now, *fields, *guarded)), job)
    data = {"code": error.code, "message": error.message} if error else {"by": by}
    kind = EventType.JOB_FAILED if error else EventType.JOB_CANCELLED
    events.append(connection, now, kind, job.number, None, data)


def guard(cursor: sqlite3.Cursor, job: Job) -> None:
    """Raise StaleTransition when a guarded update found nothing: somebody was first."""
    if cursor.rowcount != 1:
        raise StaleTransition(f"job {job.number} is no longer {job.state}")
