"""Tells in the event log when a device stops and begins again to be trustworthy, once each."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from training_cluster.domain.event import EventType
from training_cluster.store import events

# SQLite takes the other columns from the row with the maximum
_LAST = """
SELECT data ->> 'uuid' AS uuid, type, max(sequence) FROM events INDEXED BY events_by_type
WHERE type IN ('device.quarantined', 'device.recovered') GROUP BY 1"""


@dataclass(frozen=True, slots=True)
class DeviceHealth:
    """A device as it was just seen; `fault` says why it must not be trusted."""

    uuid: str
    name: str
    fault: str | None


def record(connection: sqlite3.Connection, devices: Iterable[DeviceHealth], now: float) -> None:
    """Add `device.quarantined` and `device.recovered` where the log says otherwise of a device;
    one that was never mentioned counts as healthy."""
    faulty = {
        row["uuid"]
        for row in connection.execute(_LAST)
        if row["type"] == EventType.DEVICE_QUARANTINED.value
    }
    for device in devices:
        if (device.fault is not None) == (device.uuid in faulty):
            continue
        kind = EventType.DEVICE_RECOVERED
        if device.fault is not None:
            kind = EventType.DEVICE_QUARANTINED
        reason = device.fault or "it can be read again"
        data = {"uuid": device.uuid, "name": device.name, "reason": reason}
        events.append(connection, now, kind, data=data)
