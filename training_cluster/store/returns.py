"""Jobs that wait for a person and come back: paused in the queue, resumed, tried again."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from training_cluster.domain.event import EventType
from training_cluster.domain.job import (
    EndedAttempt,
    Job,
    JobState,
    Outcome,
    check_transition,
)
from training_cluster.store import attempts, events, jobs

_PAUSE = """
UPDATE jobs SET state = 'paused', not_before = NULL
WHERE number = ? AND state = ? AND attempt_number = ?"""
_QUEUE = """
UPDATE jobs SET state = 'queued', not_before = ?, progress = ?, priority = ?,
                spec = json_set(spec, '$.priority', ?)
WHERE number = ? AND state = ? AND attempt_number = ?"""
_FORGET_END = """
UPDATE jobs SET state = 'queued', finished_at = NULL, error_code = NULL, error_message = NULL,
                error_hint = NULL, result = NULL, not_before = ?, progress = ?,
                begins_after = ?, counts_after = attempt_number
WHERE number = ? AND state = ? AND attempt_number = ?"""
_HISTORY = """
SELECT number, outcome, coalesce(checkpoint_step, 0) AS step FROM attempts
WHERE job_number = ? AND number > ? AND outcome IS NOT NULL ORDER BY number"""


def pause_queued(connection: sqlite3.Connection, job: Job, now: float, by: str) -> None:
    """Take a job out of the queue until it is resumed."""
    check_transition(job.id, job.state, JobState.PAUSED)
    guarded = (job.number, job.state.value, job.attempt_number)
    jobs.guard(connection.execute(_PAUSE, guarded), job)
    data = {"by": by, "step": attempts.reached(connection, job)}
    events.append(connection, now, EventType.JOB_PAUSED, job.number, None, data)


def resume(
    connection: sqlite3.Connection, job: Job, now: float, by: str, priority: int | None = None
) -> int:
    """Put a paused job back into the queue, at its old place there unless it gets another
    priority. Returns the step it is to go on from, 0 for its start."""
    check_transition(job.id, job.state, JobState.QUEUED)
    step = attempts.reached(connection, job)
    chosen = job.priority if priority is None else priority
    values = (now, attempts.progress_at(job, step), chosen, chosen)
    guarded = (job.number, job.state.value, job.attempt_number)
    jobs.guard(connection.execute(_QUEUE, (*values, *guarded)), job)
    data = {"by": by, "step": step, "priority": chosen}
    events.append(connection, now, EventType.JOB_RESUMED, job.number, None, data)
    return step


def retry(
    connection: sqlite3.Connection, job: Job, now: float, by: str, *, from_start: bool
) -> int:
    """Put a job that failed or was cancelled back into the queue, as if it had never ended; its
    retries count anew. Returns the step it is to go on from, 0 for its start."""
    check_transition(job.id, job.state, JobState.QUEUED)
    begins_after = job.attempt_number if from_start else job.begins_after
    step = 0 if from_start else attempts.reached(connection, job)
    values = (now, attempts.progress_at(job, step), begins_after)
    guarded = (job.number, job.state.value, job.attempt_number)
    jobs.guard(connection.execute(_FORGET_END, (*values, *guarded)), job)
    data = {"by": by, "step": step, "from": "start" if from_start else "checkpoint"}
    events.append(connection, now, EventType.JOB_RETRIED, job.number, None, data)
    return step


def history(connection: sqlite3.Connection, job: Job) -> list[EndedAttempt]:
    """The ended attempts that count when it is decided whether a job is tried again."""
    found = connection.execute(_HISTORY, (job.number, job.begins_after)).fetchall()
    ended = _advances([(row["number"], row["outcome"], row["step"]) for row in found])
    return [one for number, one in ended if number > job.counts_after]


def _advances(rows: Sequence[tuple[int, str, int]]) -> list[tuple[int, EndedAttempt]]:
    furthest, found = 0, []
    for number, outcome, step in rows:
        found.append((number, EndedAttempt(Outcome(outcome), advanced=step > furthest)))
        furthest = max(furthest, step)
    return found
