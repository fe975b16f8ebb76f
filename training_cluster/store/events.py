"""The event log: facts are appended in the transaction of the change they record, and so are
the deliveries that tell webhooks of them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from training_cluster.domain.event import NOTIFIED, Event, EventType
from training_cluster.domain.webhook import OutboxFilled
from training_cluster.store import deliveries
from training_cluster.store.facts import tell

_APPEND = """
INSERT INTO events (time, type, job_number, attempt_number, data) VALUES (?, ?, ?, ?, ?)"""
_OWNER = "SELECT id, user FROM jobs WHERE number = ?"
_SELECT = """
SELECT e.sequence, e.time, e.type, j.id AS job_id, e.job_number, e.attempt_number, e.data
FROM events e LEFT JOIN jobs j ON j.number = e.job_number"""
_PAGE = _SELECT + " WHERE e.sequence > ? {filters} ORDER BY e.sequence LIMIT ?"
_LATEST = _SELECT + " WHERE e.sequence > ? {filters} ORDER BY e.sequence DESC LIMIT ?"
_ONE = _SELECT + " WHERE e.sequence = ?"
_LAST = "SELECT coalesce(max(sequence), 0) FROM events"
_LAST_OF_JOB = """
SELECT time FROM events WHERE job_number = ? AND type = ? ORDER BY sequence DESC LIMIT 1"""


def append(
    connection: sqlite3.Connection,
    now: float,
    kind: EventType,
    job_number: int | None = None,
    attempt_number: int | None = None,
    data: Mapping[str, Any] = MappingProxyType({}),
) -> Event:
    """Add one fact to the log, inside the caller's transaction."""
    content = dict(data)
    text = json.dumps(content, separators=(",", ":"))
    values = (now, kind.value, job_number, attempt_number, text)
    sequence = connection.execute(_APPEND, values).lastrowid
    assert sequence is not None
    owner = None
    if job_number is not None:
        owner = connection.execute(_OWNER, (job_number,)).fetchone()
    job_id, user = (owner["id"], owner["user"]) if owner else (None, None)
    event = Event(sequence, now, kind, job_id, job_number, attempt_number, content)
    tell(connection, event)
    if kind in NOTIFIED and (added := deliveries.enqueue(connection, event, user)):
        tell(connection, OutboxFilled(sequence, added))
    return event


def page(
    connection: sqlite3.Connection,
    after: int,
    limit: int,
    *,
    job_number: int | None = None,
    kind: EventType | None = None,
    latest: bool = False,
) -> list[Event]:
    """Events behind `after`, oldest first; of one job or one type when these are named. Of more
    than `limit` the first ones, or the latest."""
    filters, values = "", list[object]()
    if job_number is not None:
        filters += " AND e.job_number = ?"
        values.append(job_number)
    if kind is not None:
        filters += " AND e.type = ?"
        values.append(kind.value)
    query = (_LATEST if latest else _PAGE).format(filters=filters)
    found = [_event(row) for row in connection.execute(query, (after, *values, limit))]
    return found[::-1] if latest else found


def find(connection: sqlite3.Connection, sequence: int) -> Event | None:
    """One event; None when there is no such number."""
    row = connection.execute(_ONE, (sequence,)).fetchone()
    return None if row is None else _event(row)


def last_sequence(connection: sqlite3.Connection) -> int:
    """The number of the latest event, 0 before the first."""
    sequence: int = connection.execute(_LAST).fetchone()[0]
    return sequence


def last_time(connection: sqlite3.Connection, job_number: int, kind: EventType) -> float | None:
    """When something last happened to a job (Unix seconds); None if it never did."""
    row = connection.execute(_LAST_OF_JOB, (job_number, kind.value)).fetchone()
    return None if row is None else float(row["time"])


def _event(row: sqlite3.Row) -> Event:
    return Event(
        sequence=row["sequence"],
        time=row["time"],
        type=EventType(row["type"]),
        job_id=row["job_id"],
        job_number=row["job_number"],
        attempt_number=row["attempt_number"],
        data=json.loads(row["data"]),
    )
