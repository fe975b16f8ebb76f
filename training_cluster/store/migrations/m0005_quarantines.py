"""Devices that are kept out of the queue until they have proved themselves, and the foreign memory
that people waved through."""

from __future__ import annotations

from sqlite3 import Connection

from training_cluster.store.migrations.steps import execute, migrations

_QUARANTINES = """
CREATE TABLE quarantines (
  device_uuid TEXT PRIMARY KEY,
  name        TEXT NOT NULL,
  cause       TEXT NOT NULL CHECK (cause IN ('reading', 'memory', 'lost', 'flapping', 'person')),
  reason      TEXT NOT NULL,
  since       REAL NOT NULL,
  user        TEXT,  -- NULL: the daemon itself
  CHECK ((cause = 'person') = (user IS NOT NULL))
) STRICT, WITHOUT ROWID;
INSERT INTO quarantines (device_uuid, name, cause, reason, since)
  SELECT data ->> 'uuid', data ->> 'name', 'reading', data ->> 'reason', time FROM (
    SELECT data, type, time, max(sequence) FROM events INDEXED BY events_by_type
    WHERE type IN ('device.quarantined', 'device.recovered') GROUP BY data ->> 'uuid')
  WHERE type = 'device.quarantined';

CREATE TABLE tolerances (
  device_uuid  TEXT PRIMARY KEY,
  memory_bytes INTEGER NOT NULL CHECK (memory_bytes > 0),
  user         TEXT NOT NULL,
  reason       TEXT NOT NULL,
  created_at   REAL NOT NULL,
  until        REAL
) STRICT, WITHOUT ROWID;
"""


@migrations()
def m0005_quarantines(db: Connection) -> None:
    """Quarantines and tolerances; a device the event log last called faulty is quarantined."""
    execute(db, _QUARANTINES)
