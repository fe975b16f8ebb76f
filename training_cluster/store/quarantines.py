"""Quarantines and tolerances in SQLite: which devices are kept out of the queue, and which
foreign memory was waved through."""

from __future__ import annotations

import sqlite3
from typing import Any

from training_cluster.domain.device import Quarantine, QuarantineCause, Tolerance
from training_cluster.domain.event import EventType
from training_cluster.store import events

_ALL = "SELECT device_uuid, name, cause, reason, since, user FROM quarantines"
_PUT = """
INSERT INTO quarantines (device_uuid, name, cause, reason, since, user) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (device_uuid) DO UPDATE SET cause = excluded.cause, reason = excluded.reason,
  since = excluded.since, user = excluded.user"""
_DELETE = "DELETE FROM quarantines WHERE device_uuid = ? RETURNING name"
_EARLIER = """
SELECT count(*) FROM events INDEXED BY events_by_type
WHERE type = 'device.quarantined' AND time > ?1 AND data ->> 'uuid' = ?2 AND data ->> 'by' IS NULL
  AND sequence > (SELECT coalesce(max(sequence), 0) FROM events INDEXED BY events_by_type
    WHERE type = 'device.recovered' AND data ->> 'uuid' = ?2 AND data ->> 'by' IS NOT NULL)"""
_TOLERATE = """
INSERT INTO tolerances (device_uuid, memory_bytes, user, reason, created_at, until)
VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (device_uuid) DO UPDATE SET memory_bytes = excluded.memory_bytes,
  user = excluded.user, reason = excluded.reason, created_at = excluded.created_at,
  until = excluded.until"""
_TOLERATED = """
SELECT device_uuid, memory_bytes, user, reason, created_at, until FROM tolerances
WHERE until IS NULL OR until > ?"""
_END_TOLERANCE = "DELETE FROM tolerances WHERE device_uuid = ?"
_FREED = """
SELECT device_uuid, job_number, max(released_at) AS released_at FROM leases
WHERE released_at > ? GROUP BY device_uuid"""


def active(connection: sqlite3.Connection) -> dict[str, Quarantine]:
    """The quarantine of each device that is in one."""
    return {row["device_uuid"]: _quarantine(row) for row in connection.execute(_ALL)}


def _quarantine(row: sqlite3.Row) -> Quarantine:
    uuid, name, cause, reason, since, user = row
    return Quarantine(uuid, name, QuarantineCause(cause), reason, since, user)


def put(connection: sqlite3.Connection, quarantine: Quarantine) -> None:
    """Quarantine a device, or change why it is quarantined."""
    q = quarantine
    values = (q.device_uuid, q.name, q.cause.value, q.reason, q.since, q.user)
    connection.execute(_PUT, values)
    data = _about(q.device_uuid, q.name, q.reason, q.user) | {"cause": q.cause.value}
    events.append(connection, q.since, EventType.DEVICE_QUARANTINED, data=data)


def end(
    connection: sqlite3.Connection, device_uuid: str, reason: str, user: str | None, now: float
) -> bool:
    """End a quarantine, by a person or, with None, by proof; False when there was none."""
    row = connection.execute(_DELETE, (device_uuid,)).fetchone()
    if row is None:
        return False
    data = _about(device_uuid, row["name"], reason, user)
    events.append(connection, now, EventType.DEVICE_RECOVERED, data=data)
    return True


def times_since(connection: sqlite3.Connection, device_uuid: str, since: float) -> int:
    """How often the daemon itself has quarantined a device since then (Unix seconds), or since a
    person has last released it."""
    count: int = connection.execute(_EARLIER, (since, device_uuid)).fetchone()[0]
    return count


def tolerate(connection: sqlite3.Connection, tolerance: Tolerance) -> None:
    """Wave foreign memory through on a device, or change how much."""
    t = tolerance
    values = (t.device_uuid, t.memory_bytes, t.user, t.reason, t.created_at, t.until)
    connection.execute(_TOLERATE, values)
    data: dict[str, Any] = {"device": t.device_uuid, "memory_bytes": t.memory_bytes}
    data |= {"by": t.user, "reason": t.reason, "until": t.until}
    events.append(connection, t.created_at, EventType.DEVICE_TOLERATED, data=data)


def end_tolerance(connection: sqlite3.Connection, device_uuid: str, user: str, now: float) -> bool:
    """Take a tolerance back; False when there was none."""
    if connection.execute(_END_TOLERANCE, (device_uuid,)).rowcount == 0:
        return False
    data = {"device": device_uuid, "memory_bytes": 0, "by": user}
    events.append(connection, now, EventType.DEVICE_TOLERATED, data=data)
    return True


def tolerated(connection: sqlite3.Connection, now: float) -> dict[str, Tolerance]:
    """What is waved through on each device, at `now` (Unix seconds)."""
    return {row["device_uuid"]: Tolerance(*row) for row in connection.execute(_TOLERATED, (now,))}


def freed_since(connection: sqlite3.Connection, since: float) -> dict[str, int]:
    """Devices that attempts gave back since then (Unix seconds), with the number of the job."""
    found = connection.execute(_FREED, (since,))
    return {row["device_uuid"]: row["job_number"] for row in found}


def _about(uuid: str, name: str, reason: str, user: str | None) -> dict[str, Any]:
    return {"uuid": uuid, "name": name, "reason": reason, "by": user}
