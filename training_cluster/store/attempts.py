"""Attempts and leases in SQLite: claim, start, stop and end, each one transaction."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from typing import Any

from training_cluster.domain.device import Lease
from training_cluster.domain.event import EventType
from training_cluster.domain.job import (
    Attempt,
    AttemptRef,
    Job,
    JobState,
    Outcome,
    StopReason,
    Verdict,
    check_transition,
)
from training_cluster.store import events, jobs, tracker_runs

_CLAIM = """
UPDATE jobs SET state = 'preparing', attempt_number = attempt_number + 1, not_before = NULL
WHERE number = ? AND state = 'queued' AND attempt_number = ?"""
_INSERT = """
INSERT INTO attempts (job_number, number, directory, created_at, master_port)
VALUES (?, ?, ?, ?, ?)"""
_LEASE = """
INSERT INTO leases (device_uuid, job_number, attempt_number, leased_at) VALUES (?, ?, ?, ?)"""
_PORTS = """
SELECT master_port FROM attempts WHERE ended_at IS NULL AND master_port IS NOT NULL"""
_STARTED = """
UPDATE attempts SET started_at = ? WHERE job_number = ? AND number = ? AND started_at IS NULL"""
_JOB_STARTED = """
UPDATE jobs SET state = 'running', started_at = coalesce(started_at, ?)
WHERE number = ? AND state = 'preparing' AND attempt_number = ?"""
_STOP = """
UPDATE attempts SET stop_reason = ? WHERE job_number = ? AND number = ? AND ended_at IS NULL"""
_END = """
UPDATE attempts SET ended_at = ?, outcome = ?, exit_code = ?
WHERE job_number = ? AND number = ? AND ended_at IS NULL"""
_RELEASE = """
UPDATE leases SET released_at = ?
WHERE job_number = ? AND attempt_number = ? AND released_at IS NULL
RETURNING device_uuid"""
_DEPENDENCIES_DONE = """
SELECT max(d.finished_at) FROM json_each(?) AS wanted JOIN jobs d ON d.id = wanted.value"""
_JOB_END = """
UPDATE jobs SET state = ?, finished_at = ?, error_code = ?, error_message = ?, error_hint = ?,
                result = ?
WHERE number = ? AND state = ? AND attempt_number = ?"""
_REQUEUE = """
UPDATE jobs SET state = 'queued', not_before = ?, progress = NULL
WHERE number = ? AND state = ? AND attempt_number = ?"""
_COLUMNS = """
SELECT j.id AS job_id, a.*, (SELECT group_concat(device_uuid) FROM leases l
  WHERE l.job_number = a.job_number AND l.attempt_number = a.number) AS devices
FROM attempts a JOIN jobs j ON j.number = a.job_number"""
_ACTIVE = _COLUMNS + " WHERE a.ended_at IS NULL ORDER BY a.created_at, a.job_number"
_OF_JOB = _COLUMNS + " WHERE a.job_number = ? ORDER BY a.number"
_FAILURES = """
SELECT count(*) FROM attempts
WHERE job_number = ? AND outcome IS NOT NULL AND outcome NOT IN ('interrupted', 'preempted')"""
_LEASES = """
SELECT l.device_uuid, j.id AS job_id, l.job_number, l.attempt_number, l.leased_at
FROM leases l JOIN jobs j ON j.number = l.job_number WHERE l.released_at IS NULL"""

_END_EVENTS = {
    JobState.COMPLETED: EventType.JOB_COMPLETED,
    JobState.FAILED: EventType.JOB_FAILED,
    JobState.CANCELLED: EventType.JOB_CANCELLED,
}


@dataclass(frozen=True, slots=True)
class Claimed:
    """A claim that was committed: which attempt, and its port for torchrun."""

    ref: AttemptRef
    job_number: int
    master_port: int | None


def claim(
    connection: sqlite3.Connection,
    job: Job,
    device_uuids: tuple[str, ...],
    directory: str,
    now: float,
    ports: range,
    trackers: tuple[str, ...] = (),
) -> Claimed | None:
    """Lease the devices to the next attempt of a queued job, which is to live in `directory` and
    to be told to `trackers`.

    None when the job is no longer queued. Raises sqlite3.IntegrityError when a device is leased
    already: then nothing is changed."""
    if connection.execute(_CLAIM, (job.number, job.attempt_number)).rowcount != 1:
        return None
    attempt = job.attempt_number + 1
    port = _free_port(connection, ports) if len(device_uuids) > 1 else None
    connection.execute(_INSERT, (job.number, attempt, directory, now, port))
    for uuid in device_uuids:
        connection.execute(_LEASE, (uuid, job.number, attempt, now))
    tracker_runs.add(connection, job.number, attempt, trackers)
    kind = EventType.JOB_STARTING
    data = {"devices": device_uuids, "ready_at": _ready_at(connection, job)}
    events.append(connection, now, kind, job.number, attempt, data)
    return Claimed(AttemptRef(job.id, attempt), job.number, port)


def _ready_at(connection: sqlite3.Connection, job: Job) -> float:
    """Since when a job could have started if there had been devices, in Unix seconds."""
    done = None
    if job.spec.depends_on:
        wanted = json.dumps(job.spec.depends_on)
        done = connection.execute(_DEPENDENCIES_DONE, (wanted,)).fetchone()[0]
    return max(job.created_at, job.not_before or 0.0, done or 0.0)


def _free_port(connection: sqlite3.Connection, ports: range) -> int:
    taken = {row["master_port"] for row in connection.execute(_PORTS)}
    return next(port for port in ports if port not in taken)


def mark_running(connection: sqlite3.Connection, claimed: Claimed, now: float) -> bool:
    """The runner has the attempt. False when the job was told to stop in the meantime."""
    key = (claimed.job_number, claimed.ref.number)
    connection.execute(_STARTED, (now, *key))
    moved = connection.execute(_JOB_STARTED, (now, *key)).rowcount == 1
    if moved:
        events.append(connection, now, EventType.JOB_STARTED, *key)
    return moved


def mark_stopping(connection: sqlite3.Connection, job: Job, reason: StopReason, now: float) -> None:
    """Record that an active job is to stop, before anybody signals it."""
    jobs.move(connection, job, JobState.STOPPING)
    connection.execute(_STOP, (reason.value, job.number, job.attempt_number))
    kind = EventType.JOB_STOPPING
    data = {"reason": reason.value}
    events.append(connection, now, kind, job.number, job.attempt_number, data)


def end(
    connection: sqlite3.Connection,
    job: Job,
    verdict: Verdict,
    exit_code: int | None,
    now: float,
    retry_at: float | None,
) -> JobState:
    """End the active attempt, free its devices and move the job: back into the queue when
    `retry_at` (Unix seconds) is given, to its final state otherwise. Returns the new state."""
    attempt = (job.number, job.attempt_number)
    cursor = connection.execute(_END, (now, verdict.outcome.value, exit_code, *attempt))
    jobs.guard(cursor, job)
    freed = [row["device_uuid"] for row in connection.execute(_RELEASE, (now, *attempt))]
    if retry_at is not None:
        return _requeue(connection, job, verdict, now, retry_at, freed)
    return _finish(connection, job, verdict, now, freed)


def _requeue(
    connection: sqlite3.Connection,
    job: Job,
    verdict: Verdict,
    now: float,
    retry_at: float,
    freed: list[str],
) -> JobState:
    check_transition(job.id, job.state, JobState.QUEUED)
    guarded = (job.number, job.state.value, job.attempt_number)
    jobs.guard(connection.execute(_REQUEUE, (retry_at, *guarded)), job)
    data = {
        "code": verdict.outcome.value,
        "message": verdict.message,
        "not_before": retry_at,
        "devices": freed,
    }
    preempted = verdict.outcome is Outcome.PREEMPTED
    kind = EventType.JOB_PREEMPTED if preempted else EventType.JOB_RETRYING
    events.append(connection, now, kind, job.number, job.attempt_number, data)
    return JobState.QUEUED


def _finish(
    connection: sqlite3.Connection, job: Job, verdict: Verdict, now: float, freed: list[str]
) -> JobState:
    after = _final_state(verdict.outcome)
    check_transition(job.id, job.state, after)
    error = verdict.error
    fields = (error.code, error.message, error.hint) if error else (None, None, None)
    result = json.dumps(verdict.result) if verdict.result is not None else None
    guarded = (job.number, job.state.value, job.attempt_number)
    jobs.guard(connection.execute(_JOB_END, (after.value, now, *fields, result, *guarded)), job)
    data: dict[str, Any] = {"code": error.code, "message": error.message} if error else {}
    data["devices"] = freed
    kind = _END_EVENTS[after]
    events.append(connection, now, kind, job.number, job.attempt_number, data)
    return after


def _final_state(outcome: Outcome) -> JobState:
    if outcome is Outcome.COMPLETED:
        return JobState.COMPLETED
    return JobState.CANCELLED if outcome is Outcome.CANCELLED else JobState.FAILED


def active(connection: sqlite3.Connection) -> list[Attempt]:
    """Attempts that have not ended, oldest first."""
    return [_attempt(row) for row in connection.execute(_ACTIVE)]


def of_job(connection: sqlite3.Connection, job_number: int) -> list[Attempt]:
    """All attempts of a job, first to latest."""
    return [_attempt(row) for row in connection.execute(_OF_JOB, (job_number,))]


def failures(connection: sqlite3.Connection, job_number: int) -> int:
    """How many ended attempts of a job count against its retries."""
    count: int = connection.execute(_FAILURES, (job_number,)).fetchone()[0]
    return count


def leases(connection: sqlite3.Connection) -> dict[str, Lease]:
    """The active lease of each leased device."""
    return {row["device_uuid"]: Lease(*row) for row in connection.execute(_LEASES)}


def _attempt(row: sqlite3.Row) -> Attempt:
    return Attempt(
        ref=AttemptRef(row["job_id"], row["number"]),
        directory=row["directory"],
        device_uuids=tuple((row["devices"] or "").split(",")) if row["devices"] else (),
        created_at=row["created_at"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        outcome=Outcome(row["outcome"]) if row["outcome"] else None,
        exit_code=row["exit_code"],
        stop_reason=StopReason(row["stop_reason"]) if row["stop_reason"] else None,
        master_port=row["master_port"],
        log_offset=row["log_offset"],
    )
