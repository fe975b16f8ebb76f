"""Holds in SQLite: devices that people keep out of the queue for a while."""

from __future__ import annotations

import sqlite3
from typing import Any

from training_cluster.domain.device import Hold
from training_cluster.domain.event import EventType
from training_cluster.store import events

_PUT = """
INSERT INTO holds (device_uuid, user, reason, created_at, until) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (device_uuid) DO UPDATE SET user = excluded.user, reason = excluded.reason,
  created_at = excluded.created_at, until = excluded.until"""
_DELETE = "DELETE FROM holds WHERE device_uuid = ?"
_ACTIVE = """
SELECT device_uuid, user, reason, created_at, until FROM holds
WHERE until IS NULL OR until > ?"""

_NEXT_END = "SELECT min(until) FROM holds WHERE until > ?"


def put(connection: sqlite3.Connection, hold: Hold) -> None:
    """Hold a device, or change the hold on it."""
    values = (hold.device_uuid, hold.user, hold.reason, hold.created_at, hold.until)
    connection.execute(_PUT, values)
    data: dict[str, Any] = {"device": hold.device_uuid, "user": hold.user, "reason": hold.reason}
    data["until"] = hold.until
    events.append(connection, hold.created_at, EventType.DEVICE_HELD, data=data)


def delete(connection: sqlite3.Connection, device_uuid: str, user: str, now: float) -> bool:
    """Give a held device back to the queue; False when it was not held."""
    if connection.execute(_DELETE, (device_uuid,)).rowcount == 0:
        return False
    data = {"device": device_uuid, "user": user}
    events.append(connection, now, EventType.DEVICE_RELEASED, data=data)
    return True


def next_end(connection: sqlite3.Connection, after: float) -> float | None:
    """When the first hold ends by itself behind `after` (Unix seconds); None for never."""
    end: float | None = connection.execute(_NEXT_END, (after,)).fetchone()[0]
    return end


def active(connection: sqlite3.Connection, now: float) -> dict[str, Hold]:
    """The hold on each held device."""
    return {row["device_uuid"]: Hold(*row) for row in connection.execute(_ACTIVE, (now,))}
