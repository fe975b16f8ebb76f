"""Attempts and leases in SQLite: claim, start, stop and end, each one transaction."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from training_cluster.domain.device import Lease
from training_cluster.domain.event import EventType
from training_cluster.domain.job import (
    Attempt,
    AttemptRef,
    Checkpoint,
    Job,
    JobState,
    Outcome,
    StopReason,
    Verdict,
    check_transition,
)
from training_cluster.store import events, jobs, models, tracker_runs

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
_GO_ON = """
UPDATE attempts SET resumed_from = ?, resumed_step = ?, resumed_tokens = ?, elapsed_before = ?
WHERE job_number = ? AND number = ? AND ended_at IS NULL"""
_FORGET = """
UPDATE attempts SET checkpoint_step = nullif(min(checkpoint_step, ?), 0)
WHERE job_number = ? AND number < ? AND checkpoint_step > ?"""
_ASKED = "SELECT stop_reason FROM attempts WHERE job_number = ? AND number = ?"
_REACHED = """
SELECT coalesce(max(checkpoint_step), 0) FROM attempts WHERE job_number = ? AND number > ?"""
_END = """
UPDATE attempts SET ended_at = ?, outcome = ?, exit_code = ?, checkpoint_step = ?
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
_WAIT = """
UPDATE jobs SET state = ?, not_before = ?, progress = ?
WHERE number = ? AND state = ? AND attempt_number = ?"""
_COLUMNS = """
SELECT j.id AS job_id, a.*, (SELECT group_concat(device_uuid) FROM leases l
  WHERE l.job_number = a.job_number AND l.attempt_number = a.number) AS devices
FROM attempts a JOIN jobs j ON j.number = a.job_number"""
_ACTIVE = _COLUMNS + " WHERE a.ended_at IS NULL ORDER BY a.created_at, a.job_number"
_OF_JOB = _COLUMNS + " WHERE a.job_number = ? ORDER BY a.number"
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


def mark_stopping(
    connection: sqlite3.Connection, job: Job, reason: StopReason, now: float, by: str | None = None
) -> None:
    """Record that an active job is to stop, before anybody signals it; of one that is stopping
    already, that it is to stop for another reason. `by` is the name of who asked for it."""
    if job.state is not JobState.STOPPING:
        jobs.move(connection, job, JobState.STOPPING)
    connection.execute(_STOP, (reason.value, job.number, job.attempt_number))
    kind = EventType.JOB_STOPPING
    data = {"reason": reason.value, "by": by}
    events.append(connection, now, kind, job.number, job.attempt_number, data)


def asked(connection: sqlite3.Connection, job: Job) -> StopReason | None:
    """Why the latest attempt of a job was told to stop, if it was."""
    row = connection.execute(_ASKED, (job.number, job.attempt_number)).fetchone()
    return StopReason(row["stop_reason"]) if row and row["stop_reason"] else None


def go_on(
    connection: sqlite3.Connection, claimed: Claimed, checkpoint: Checkpoint | None, elapsed: float
) -> None:
    """Record from which checkpoint an attempt goes on, after how many seconds of training."""
    where: tuple[str | None, int | None, int, float] = (None, None, 0, 0.0)
    if checkpoint is not None:
        where = (str(checkpoint.path), checkpoint.step, checkpoint.tokens, elapsed)
    connection.execute(_GO_ON, (*where, claimed.job_number, claimed.ref.number))


def forget_checkpoints(
    connection: sqlite3.Connection, claimed: Claimed, behind: int, message: str, now: float
) -> None:
    """Record that no checkpoint of earlier attempts behind a step is of use any more."""
    connection.execute(_FORGET, (behind, claimed.job_number, claimed.ref.number, behind))
    events.warn(connection, now, claimed.job_number, claimed.ref.number, message)


def reached(connection: sqlite3.Connection, job: Job) -> int:
    """The step of the last checkpoint that the next attempt of a job can go on from; 0 for none."""
    step: int = connection.execute(_REACHED, (job.number, job.begins_after)).fetchone()[0]
    return step


def end(
    connection: sqlite3.Connection,
    job: Job,
    verdict: Verdict,
    exit_code: int | None,
    now: float,
    retry_at: float | None,
) -> JobState:
    """End the active attempt, free its devices and move the job: back into the queue when
    `retry_at` (Unix seconds) is given, to where its outcome leads otherwise. Returns the new
    state."""
    attempt = (job.number, job.attempt_number)
    saved = verdict.checkpoint.step if verdict.checkpoint else None
    ending = (now, verdict.outcome.value, exit_code, saved)
    jobs.guard(connection.execute(_END, (*ending, *attempt)), job)
    freed = [row["device_uuid"] for row in connection.execute(_RELEASE, (now, *attempt))]
    if retry_at is not None:
        return _requeue(connection, job, verdict, now, retry_at, freed)
    if verdict.outcome is Outcome.PAUSED:
        return _pause(connection, job, verdict, now, freed)
    return _finish(connection, job, verdict, now, freed)


def _requeue(
    connection: sqlite3.Connection,
    job: Job,
    verdict: Verdict,
    now: float,
    retry_at: float,
    freed: list[str],
) -> JobState:
    step = _wait(connection, job, JobState.QUEUED, retry_at)
    why = {"code": verdict.outcome.value, "message": verdict.message}
    data = {**why, "not_before": retry_at, "step": step, "devices": freed}
    preempted = verdict.outcome is Outcome.PREEMPTED
    kind = EventType.JOB_PREEMPTED if preempted else EventType.JOB_RETRYING
    events.append(connection, now, kind, job.number, job.attempt_number, data)
    return JobState.QUEUED


def _pause(
    connection: sqlite3.Connection, job: Job, verdict: Verdict, now: float, freed: list[str]
) -> JobState:
    step = _wait(connection, job, JobState.PAUSED, None)
    key = (job.number, job.attempt_number)
    if verdict.checkpoint is None:
        events.warn(connection, now, *key, verdict.message)
    data = {"message": verdict.message, "step": step, "devices": freed}
    events.append(connection, now, EventType.JOB_PAUSED, *key, data)
    return JobState.PAUSED


def _wait(
    connection: sqlite3.Connection, job: Job, after: JobState, not_before: float | None
) -> int:
    """Take a job out of its attempt; returns the step from which the next one will go on."""
    check_transition(job.id, job.state, after)
    step = reached(connection, job)
    guarded = (job.number, job.state.value, job.attempt_number)
    values = (after.value, not_before, progress_at(job, step), *guarded)
    jobs.guard(connection.execute(_WAIT, values), job)
    return step


def progress_at(job: Job, step: int) -> str | None:
    """The progress of a job that waits to go on from a step, as JSON; None at its start."""
    known = job.progress
    if known is None or step == 0:
        return None
    epoch = known.epoch and known.epoch * step / max(known.step, 1)
    return json.dumps(asdict(replace(known, step=step, epoch=epoch, remaining_seconds=None)))


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
    if after is JobState.COMPLETED and verdict.message:
        events.warn(connection, now, job.number, job.attempt_number, verdict.message)
    data: dict[str, Any] = {"code": error.code, "message": error.message} if error else {}
    data["devices"] = freed
    if after is JobState.CANCELLED:
        data["by"] = events.last_data(connection, job.number, EventType.JOB_STOPPING).get("by")
    data |= models.left(connection, job, verdict, now)
    events.append(connection, now, _END_EVENTS[after], job.number, job.attempt_number, data)
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
        resumed_from=_checkpoint(row),
        elapsed_before=row["elapsed_before"],
        checkpoint_step=row["checkpoint_step"],
    )


def _checkpoint(row: sqlite3.Row) -> Checkpoint | None:
    if row["resumed_from"] is None:
        return None
    return Checkpoint(Path(row["resumed_from"]), row["resumed_step"], row["resumed_tokens"])
