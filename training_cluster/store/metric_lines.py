"""Metric lines in SQLite: appended once each, read as curves, streams and runs of trackers."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from training_cluster.domain.job import AttemptRef
from training_cluster.domain.metric import LineSource, MetricLine
from training_cluster.store import tracker_runs
from training_cluster.store.facts import tell
from training_cluster.store.rows import metric_line

_APPEND = """
INSERT INTO metric_lines (job_number, attempt_number, source, step, time, metrics)
VALUES (?, ?, ?, ?, ?, ?)"""
_LAST = """
SELECT attempt_number, step, time FROM metric_lines
WHERE job_number = ? AND source = ? ORDER BY sequence DESC LIMIT 1"""
_SUPERSEDE = """
UPDATE metric_lines SET superseded_by = ?
WHERE job_number = ? AND source = 'trainer' AND attempt_number < ? AND step >= ?
  AND superseded_by IS NULL"""
_SELECT = """
SELECT m.sequence, j.id AS job_id, m.attempt_number, m.source, m.step, m.time, m.metrics
FROM metric_lines m JOIN jobs j ON j.number = m.job_number"""
_AFTER = (
    _SELECT
    + """
WHERE m.job_number = ? AND m.sequence > ? AND m.superseded_by IS NULL
ORDER BY m.sequence LIMIT ?"""
)
_BEFORE = (
    _SELECT
    + """
WHERE m.job_number = ? AND m.sequence < ? AND m.source = 'trainer' AND m.superseded_by IS NULL
ORDER BY m.sequence DESC LIMIT ?"""
)
_AT_STEP = """
SELECT metrics FROM metric_lines
WHERE job_number = ?1 AND source = 'trainer' AND superseded_by IS NULL AND step = (
  SELECT max(step) FROM metric_lines
  WHERE job_number = ?1 AND source = 'trainer' AND superseded_by IS NULL AND step <= ?2)
ORDER BY sequence"""
_NAMES = """
SELECT DISTINCT v.key AS name FROM metric_lines m, json_each(m.metrics) v
WHERE m.job_number = ? AND m.superseded_by IS NULL ORDER BY 1"""
_CURVE = """
SELECT m.step, m.time, json_extract(m.metrics, ?) AS value FROM metric_lines m
WHERE m.job_number = ? AND m.superseded_by IS NULL AND value IS NOT NULL ORDER BY m.sequence"""


@dataclass(frozen=True, slots=True)
class NewLine:
    """A line about to be stored; `time` is Unix seconds."""

    step: int
    time: float
    values: dict[str, float]


def append(
    connection: sqlite3.Connection,
    job_number: int,
    ref: AttemptRef,
    source: LineSource,
    lines: Sequence[NewLine],
) -> None:
    """Add lines of one attempt. The first line of an attempt that goes back to a step which an
    earlier attempt had passed supersedes the earlier lines from there on."""
    if lines and source is LineSource.TRAINER:
        _supersede(connection, job_number, ref.number, lines[0].step)
    for line in lines:
        text = json.dumps(line.values, separators=(",", ":"))
        values = (job_number, ref.number, source.value, line.step, line.time, text)
        sequence = connection.execute(_APPEND, values).lastrowid
        assert sequence is not None
        fact = MetricLine(
            sequence=sequence,
            job_id=ref.job_id,
            attempt_number=ref.number,
            source=source,
            step=line.step,
            time=line.time,
            values=line.values,
        )
        tell(connection, fact)


def _supersede(connection: sqlite3.Connection, job_number: int, attempt: int, step: int) -> None:
    if attempt == 1:
        return
    last = connection.execute(_LAST, (job_number, LineSource.TRAINER.value)).fetchone()
    if last is None or last["attempt_number"] == attempt:
        return
    if connection.execute(_SUPERSEDE, (attempt, job_number, attempt, step)).rowcount:
        tracker_runs.begin_anew(connection, job_number, attempt)


def last_step(connection: sqlite3.Connection, job_number: int, source: LineSource) -> int:
    """The step of a job's latest line of this kind; -1 before the first."""
    row = connection.execute(_LAST, (job_number, source.value)).fetchone()
    return -1 if row is None else int(row["step"])


def after(
    connection: sqlite3.Connection, job_number: int, sequence: int, limit: int
) -> list[MetricLine]:
    """The lines that hold, behind `sequence`, in the order in which they were logged."""
    return [metric_line(row) for row in connection.execute(_AFTER, (job_number, sequence, limit))]


def before(
    connection: sqlite3.Connection, job_number: int, sequence: int, limit: int
) -> list[MetricLine]:
    """The trainer's lines that hold, with a number below `sequence`, newest first."""
    return [metric_line(row) for row in connection.execute(_BEFORE, (job_number, sequence, limit))]


def values_at(connection: sqlite3.Connection, job_number: int, step: int) -> dict[str, float]:
    """What the trainer had measured last at this step; empty before its first line."""
    found = connection.execute(_AT_STEP, (job_number, step))
    values: dict[str, float] = {}
    for row in found:
        values.update(json.loads(row["metrics"]))
    return values


def names(connection: sqlite3.Connection, job_number: int) -> list[str]:
    """The metrics a job has points of, sorted."""
    return [row["name"] for row in connection.execute(_NAMES, (job_number,))]


def points(
    connection: sqlite3.Connection, job_number: int, name: str
) -> list[tuple[int, float, float]]:
    """Step, time and value of every point of one metric, in the order they were logged."""
    path = '$."' + name.replace('"', '\\"') + '"'
    return [tuple(row) for row in connection.execute(_CURVE, (path, job_number))]
