"""Runs at trackers in SQLite: which there are, and how many lines each has been given.

A job has one run at each of its trackers. When an attempt goes back to earlier steps, it begins a
run of its own that starts with the lines which still hold: no curve ever has a step twice.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from enum import StrEnum

from training_cluster.domain.metric import MetricLine
from training_cluster.store.rows import metric_line

_ADD = """
INSERT INTO tracker_runs (job_number, tracker, number, attempt_number, state)
VALUES (?, ?, 1, ?, 'waiting') ON CONFLICT (job_number, tracker, number) DO NOTHING"""
_ANEW = """
INSERT INTO tracker_runs (job_number, tracker, number, attempt_number, state)
SELECT job_number, tracker, max(number) + 1, ?, 'waiting' FROM tracker_runs
WHERE job_number = ? GROUP BY tracker"""
_REOPEN = """
UPDATE tracker_runs AS r SET state = 'waiting' WHERE job_number = ? AND state = 'ended'
  AND number = (SELECT max(number) FROM tracker_runs t
                WHERE t.job_number = r.job_number AND t.tracker = r.tracker)"""
_SELECT = """
SELECT r.*, j.id AS job_id, (SELECT attempt_number FROM tracker_runs n
  WHERE n.job_number = r.job_number AND n.tracker = r.tracker AND n.number = r.number + 1)
  AS next_attempt
FROM tracker_runs r JOIN jobs j ON j.number = r.job_number"""
_TO_DO = (
    _SELECT
    + """
WHERE r.tracker = ? AND r.state IN ('waiting', 'open')
ORDER BY j.state IN ('preparing', 'running', 'stopping') DESC, r.job_number, r.number LIMIT ?"""
)
_ONE = _SELECT + " WHERE r.job_number = ? AND r.tracker = ? AND r.number = ?"
_OF_JOB = _SELECT + " WHERE r.job_number = ? ORDER BY r.tracker, r.number"
_LINES = """
SELECT m.sequence, j.id AS job_id, m.attempt_number, m.source, m.step, m.time, m.metrics
FROM metric_lines m JOIN jobs j ON j.number = m.job_number
WHERE m.job_number = :job AND m.sequence > :after
  AND (:next IS NULL OR m.attempt_number < :next)
  AND (CASE m.source WHEN 'trainer' THEN m.superseded_by IS NULL OR m.superseded_by > :attempt
       ELSE m.attempt_number >= :attempt END)
ORDER BY m.sequence LIMIT :limit OFFSET :offset"""
_OPENED = """
UPDATE tracker_runs SET state = 'open', run_id = ?, url = ?, sent_lines = ?, sent_sequence = ?,
                        message = ?
WHERE job_number = ? AND tracker = ? AND number = ?"""
_SENT = """
UPDATE tracker_runs SET sent_lines = sent_lines + ?, sent_sequence = ?
WHERE job_number = ? AND tracker = ? AND number = ? AND sent_sequence = ?"""
_STATE = """
UPDATE tracker_runs SET state = ?, message = coalesce(?, message)
WHERE job_number = ? AND tracker = ? AND number = ?"""


class RunState(StrEnum):
    """Where a run is in its life."""

    WAITING = "waiting"  # to be opened, or opened again
    OPEN = "open"  # lines go there
    ENDED = "ended"  # the tracker has all of it
    REFUSED = "refused"  # the tracker does not take it; `message` says why


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """A run as the store knows it. `next_attempt` began the run that followed this one."""

    job_id: str
    job_number: int
    tracker: str
    number: int
    attempt_number: int
    state: RunState
    run_id: str | None
    url: str | None
    sent_lines: int
    sent_sequence: int
    message: str | None
    next_attempt: int | None


def add(
    connection: sqlite3.Connection, job_number: int, attempt: int, trackers: tuple[str, ...]
) -> None:
    """See to it that a starting attempt has a run at each tracker; later attempts go on with
    the run there is."""
    for tracker in trackers:
        connection.execute(_ADD, (job_number, tracker, attempt))
    if attempt > 1:
        connection.execute(_REOPEN, (job_number,))


def begin_anew(connection: sqlite3.Connection, job_number: int, attempt: int) -> None:
    """Begin another run at each of a job's trackers, with the lines that still hold."""
    connection.execute(_ANEW, (attempt, job_number))


def to_do(connection: sqlite3.Connection, tracker: str, limit: int = 200) -> list[RunRow]:
    """Runs of a tracker that have not ended: those of active jobs first, then the oldest."""
    return [_run(row) for row in connection.execute(_TO_DO, (tracker, limit))]


def find(connection: sqlite3.Connection, run: RunRow) -> RunRow:
    """A run as it is now."""
    key = (run.job_number, run.tracker, run.number)
    return _run(connection.execute(_ONE, key).fetchone())


def of_job(connection: sqlite3.Connection, job_number: int) -> list[RunRow]:
    """All runs of a job, by tracker and number."""
    return [_run(row) for row in connection.execute(_OF_JOB, (job_number,))]


def lines(
    connection: sqlite3.Connection, run: RunRow, limit: int, *, after: int = 0, skip: int = 0
) -> list[MetricLine]:
    """Lines of a run behind the sequence number `after`, leaving out the first `skip`."""
    values = {
        "job": run.job_number,
        "after": after,
        "next": run.next_attempt,
        "attempt": run.attempt_number,
        "limit": limit,
        "offset": skip,
    }
    return [metric_line(row) for row in connection.execute(_LINES, values)]


def opened(
    connection: sqlite3.Connection,
    run: RunRow,
    run_id: str,
    url: str | None,
    recorded: int | None,
    warning: str | None,
) -> None:
    """Record that a run is open. `recorded` sets how many lines the tracker has; None leaves
    the count of lines sent as it is."""
    sent, sequence = run.sent_lines, run.sent_sequence
    if recorded is not None and recorded != sent:
        last = lines(connection, run, 1, skip=recorded - 1) if recorded else []
        sent, sequence = recorded, last[0].sequence if last else 0
    key = (run.job_number, run.tracker, run.number)
    connection.execute(_OPENED, (run_id, url, sent, sequence, warning, *key))


def sent(connection: sqlite3.Connection, run: RunRow, count: int, sequence: int) -> None:
    """Record that the tracker took `count` more lines, up to a sequence number."""
    key = (run.job_number, run.tracker, run.number)
    connection.execute(_SENT, (count, sequence, *key, run.sent_sequence))


def move(
    connection: sqlite3.Connection, run: RunRow, state: RunState, message: str | None = None
) -> None:
    """Put a run into a state."""
    key = (run.job_number, run.tracker, run.number)
    connection.execute(_STATE, (state.value, message, *key))


def _run(row: sqlite3.Row) -> RunRow:
    return RunRow(
        job_id=row["job_id"],
        job_number=row["job_number"],
        tracker=row["tracker"],
        number=row["number"],
        attempt_number=row["attempt_number"],
        state=RunState(row["state"]),
        run_id=row["run_id"],
        url=row["url"],
        sent_lines=row["sent_lines"],
        sent_sequence=row["sent_sequence"],
        message=row["message"],
        next_attempt=row["next_attempt"],
    )
