"""The event log: facts are appended in the transaction of the change they record, and so are
the deliveries that tell webhooks of them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

from training_cluster.domain.event import AUDIT, NOTIFIED, Event, EventType
from training_cluster.domain.webhook import OutboxFilled
from training_cluster.store import deliveries
from training_cluster.store.facts import tell

_APPEND = """
INSERT INTO events (time, type, job_number, attempt_number, data) VALUES (?, ?, ?, ?, ?)"""
_OWNER = "SELECT id, user FROM jobs WHERE number = ?"
_SELECT = """
SELECT e.sequence, e.time, e.type, j.id AS job_id, e.job_number, e.attempt_number, e.data,
       j.user
FROM events e LEFT JOIN jobs j ON j.number = e.job_number"""
_PAGE = _SELECT + " WHERE e.sequence > ? {filters} ORDER BY e.sequence LIMIT ?"
_LATEST = _SELECT + " WHERE e.sequence > ? {filters} ORDER BY e.sequence DESC LIMIT ?"
_NEWEST_FIRST = " ORDER BY e.sequence DESC LIMIT ?"
_OF_TYPES = " AND e.type IN (SELECT value FROM json_each(?))"
_BEFORE = _SELECT + " WHERE e.job_number = ? AND e.sequence < ?" + _OF_TYPES + _NEWEST_FIRST
_NOT_SECRET = (
    f" AND e.type NOT IN ({', '.join(repr(kind.value) for kind in sorted(AUDIT))})"
    " AND (e.type NOT LIKE 'webhook.%' OR json_extract(e.data, '$.user') = ?)"
)
_ONE = _SELECT + " WHERE e.sequence = ?"
_LAST = "SELECT coalesce(max(sequence), 0) FROM events"
_LAST_OF_JOB = """
SELECT time, data FROM events WHERE job_number = ? AND type = ? ORDER BY sequence DESC LIMIT 1"""


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
    event = Event(sequence, now, kind, job_id, job_number, attempt_number, content, user)
    tell(connection, event)
    if kind in NOTIFIED and (added := deliveries.enqueue(connection, event, user)):
        tell(connection, OutboxFilled(sequence, added))
    return event


def warn(
    connection: sqlite3.Connection, now: float, job_number: int, attempt_number: int, message: str
) -> Event:
    """Tell of something about an attempt that its owner should know and that stops nothing."""
    data = {"message": message}
    return append(connection, now, EventType.JOB_WARNING, job_number, attempt_number, data)


def page(
    connection: sqlite3.Connection,
    after: int,
    limit: int,
    *,
    job_number: int | None = None,
    kind: EventType | None = None,
    latest: bool = False,
    but_secret_to: str | None = None,
) -> list[Event]:
    """Events behind `after`, oldest first; of one job or one type when these are named. Of more
    than `limit` the first ones, or the latest. For a user named in `but_secret_to` those that
    are for admins or for other users are left out, as domain/disclosure.py does it."""
    filters, values = "", list[object]()
    if but_secret_to is not None and job_number is None:
        filters += _NOT_SECRET
        values.append(but_secret_to)
    if job_number is not None:
        filters += " AND e.job_number = ?"
        values.append(job_number)
    if kind is not None:
        filters += " AND e.type = ?"
        values.append(kind.value)
    query = (_LATEST if latest else _PAGE).format(filters=filters)
    found = [_event(row) for row in connection.execute(query, (after, *values, limit))]
    return found[::-1] if latest else found


def before(
    connection: sqlite3.Connection,
    job_number: int,
    sequence: int,
    kinds: Collection[EventType],
    limit: int,
) -> list[Event]:
    """A job's events of these types with a number below `sequence`, newest first."""
    values = (job_number, sequence, json.dumps(sorted(kinds)), limit)
    return [_event(row) for row in connection.execute(_BEFORE, values)]


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


def last_data(connection: sqlite3.Connection, job_number: int, kind: EventType) -> dict[str, Any]:
    """What was said when something last happened to a job; empty if it never did."""
    row = connection.execute(_LAST_OF_JOB, (job_number, kind.value)).fetchone()
    return {} if row is None else dict(json.loads(row["data"]))


def _event(row: sqlite3.Row) -> Event:
    return Event(
        sequence=row["sequence"],
        time=row["time"],
        type=EventType(row["type"]),
        job_id=row["job_id"],
        job_number=row["job_number"],
        attempt_number=row["attempt_number"],
        data=json.loads(row["data"]),
        user=row["user"],
    )
