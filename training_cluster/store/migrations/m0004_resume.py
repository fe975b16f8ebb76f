"""What it takes to go on: from which checkpoint an attempt goes on, and which one it left."""

from __future__ import annotations

from sqlite3 import Connection

from training_cluster.store.migrations.steps import execute, migrations

_COLUMNS = """
ALTER TABLE attempts ADD COLUMN resumed_from TEXT;
ALTER TABLE attempts ADD COLUMN resumed_step INTEGER
  CHECK ((resumed_step IS NULL) = (resumed_from IS NULL) AND resumed_step >= 0);
ALTER TABLE attempts ADD COLUMN resumed_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempts ADD COLUMN elapsed_before REAL NOT NULL DEFAULT 0;
ALTER TABLE attempts ADD COLUMN checkpoint_step INTEGER
  CHECK (checkpoint_step IS NULL OR ended_at IS NOT NULL);
ALTER TABLE jobs ADD COLUMN begins_after INTEGER NOT NULL DEFAULT 0
  CHECK (begins_after <= attempt_number);
ALTER TABLE jobs ADD COLUMN counts_after INTEGER NOT NULL DEFAULT 0
  CHECK (counts_after <= attempt_number);
"""


@migrations()
def m0004_resume(db: Connection) -> None:
    """Checkpoints of attempts, and where a job begins anew."""
    execute(db, _COLUMNS)
