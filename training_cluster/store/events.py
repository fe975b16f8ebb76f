"""The event log: facts are appended in the transaction of the change they record."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from training_cluster.domain.event import Event, EventType

_APPEND = """
INSERT INTO events (time, type, job_number, attempt_number, data) VALUES (?, ?, ?, ?, ?)"""
_AFTER = """
SELECT e.sequence, e.time, e.type, j.id AS job_id, e.attempt_number, e.data
FROM events e LEFT JOIN jobs j ON j.number = e.job_number
WHERE e.sequence > ? ORDER BY e.sequence LIMIT ?"""
_OF_JOB = """
SELECT e.sequence, e.time, e.type, j.id AS job_id, e.attempt_number, e.data
FROM events e JOIN jobs j ON j.number = e.job_number
WHERE e.job_number = ? AND e.sequence > ? ORDER BY e.sequence LIMIT ?"""


def append(
    connection: sqlite3.Connection,
    now: float,
    kind: EventType,
    job_number: int | None = None,
    attempt_number: int | None = None,
    data: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Add one fact to the log, inside the caller's transaction."""
    text = json.dumps(dict(data), separators=(",", ":"))
    connection.execute(_APPEND, (now, kind.value, job_number, attempt_number, text))


def after(connection: sqlite3.Connection, sequence: int, limit: int) -> list[Event]:
    """Events behind `sequence`, oldest first."""
    return [_event(row) for row in connection.execute(_AFTER, (sequence, limit))]


def of_job(
    connection: sqlite3.Connection, job_number: int, sequence: int, limit: int
) -> list[Event]:
    """Events of one job behind `sequence`, oldest first."""
    return [_event(row) for row in connection.execute(_OF_JOB, (job_number, sequence, limit))]


def _event(row: sqlite3.Row) -> Event:
    return Event(
        sequence=row["sequence"],
        time=row["time"],
        type=EventType(row["type"]),
        job_id=row["job_id"],
        attempt_number=row["attempt_number"],
        data=json.loads(row["data"]),
    )
