"""What a trainer's log said, stored together with how far it was read."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from training_cluster.domain.event import EventType
from training_cluster.domain.job import AttemptRef, Progress, TrainingPoint
from training_cluster.domain.metric import LineSource
from training_cluster.domain.plain import plain
from training_cluster.store import events, metric_lines
from training_cluster.store.metric_lines import NewLine

_OFFSET = """
UPDATE attempts SET log_offset = ? WHERE job_number = ? AND number = ? AND log_offset = ?"""
_READ_SO_FAR = "SELECT log_offset FROM attempts WHERE job_number = ? AND number = ?"
_PROGRESS = "UPDATE jobs SET progress = ?, metrics = ? WHERE number = ?"

TimedPoint = tuple[TrainingPoint, float]
"""A point and when it was logged, in Unix seconds."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of what is logged is kept and told. `progress_every_seconds` is how far apart
    `job.progress` events are at least, None for none; lines behind the first `most_bytes` of a
    log only move the progress."""

    progress_every_seconds: float | None = None
    most_bytes: int = 1 << 60


def record(
    connection: sqlite3.Connection,
    job_number: int,
    ref: AttemptRef,
    points: Sequence[TimedPoint],
    stretch: tuple[int, int],
    limits: Limits = Limits(),
) -> int:
    """Store what a stretch of the trainer's log (bytes from and up to) said and that it was read,
    in one go. Returns how far the log is read now: nothing is stored of a stretch that does not
    begin where the last one ended."""
    start, end = stretch
    if connection.execute(_OFFSET, (end, job_number, ref.number, start)).rowcount != 1:
        return _read_so_far(connection, job_number, ref.number)
    if start < limits.most_bytes:
        lines = [NewLine(p.progress.step, time, p.values) for p, time in points if p.values]
        metric_lines.append(connection, job_number, ref, LineSource.TRAINER, lines)
    if points:
        _progress(connection, job_number, ref, points, limits)
        if start < limits.most_bytes <= end:
            _tell_limit(connection, job_number, ref, points[-1][1], limits)
    return end


def _read_so_far(connection: sqlite3.Connection, job_number: int, attempt: int) -> int:
    row = connection.execute(_READ_SO_FAR, (job_number, attempt)).fetchone()
    return int(row["log_offset"])


def _progress(
    connection: sqlite3.Connection,
    job_number: int,
    ref: AttemptRef,
    points: Sequence[TimedPoint],
    limits: Limits,
) -> None:
    latest: dict[str, float] = {}
    for point, _ in points:
        latest.update(point.values)
    last, time = points[-1]
    metrics = _merge(connection, job_number, last.progress, latest)
    every = limits.progress_every_seconds
    if every is not None and _is_due(connection, job_number, time, every):
        data = {"progress": plain(last.progress), "metrics": metrics}
        events.append(connection, time, EventType.JOB_PROGRESS, job_number, ref.number, data)


def _merge(
    connection: sqlite3.Connection, number: int, progress: Progress, latest: dict[str, float]
) -> dict[str, float]:
    row = connection.execute("SELECT metrics FROM jobs WHERE number = ?", (number,)).fetchone()
    metrics = {**json.loads(row["metrics"] or "{}"), **latest}
    values = (json.dumps(plain(progress)), json.dumps(metrics), number)
    connection.execute(_PROGRESS, values)
    return metrics


def _is_due(
    connection: sqlite3.Connection, job_number: int, now: float, every_seconds: float
) -> bool:
    told = events.last_time(connection, job_number, EventType.JOB_PROGRESS)
    if told is None:
        told = events.last_time(connection, job_number, EventType.JOB_STARTED) or now
    return now - told >= every_seconds


def _tell_limit(
    connection: sqlite3.Connection, job_number: int, ref: AttemptRef, now: float, limits: Limits
) -> None:
    message = (
        f"the trainer has logged {limits.most_bytes >> 20} MiB of metrics: what follows is only "
        "in its own log; log less often (overrides.logging_steps) to keep it all"
    )
    events.warn(connection, now, job_number, ref.number, message)
