"""What a change of the wall clock means for moments in SQLite: what was to happen in an hour still
happens in an hour, while what has happened keeps the time it was told at."""

from __future__ import annotations

import sqlite3

from training_cluster.domain.event import EventType
from training_cluster.store import events

_SHIFTS = (
    "UPDATE jobs SET not_before = not_before + ? WHERE state = 'queued' AND not_before IS NOT NULL",
    "UPDATE holds SET until = until + ? WHERE until IS NOT NULL",
    "UPDATE tolerances SET until = until + ? WHERE until IS NOT NULL",
    "UPDATE deliveries SET next_at = next_at + ? WHERE state = 'pending'",
)


def shift(connection: sqlite3.Connection, seconds: float, now: float) -> None:
    """Move every deadline by a step of the clock; `now` is the time after it (Unix seconds)."""
    for statement in _SHIFTS:
        connection.execute(statement, (seconds,))
    events.append(connection, now, EventType.CLOCK_STEPPED, data={"seconds": round(seconds, 3)})
