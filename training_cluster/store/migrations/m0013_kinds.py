"""Kinds of jobs: those that take no device, and which registered model a job starts from."""

from __future__ import annotations

from sqlite3 import Connection

from training_cluster.store.migrations.steps import execute, migrations

_COLUMNS = """
ALTER TABLE jobs ADD COLUMN needs_device INTEGER NOT NULL DEFAULT 1 CHECK (needs_device IN (0, 1));
ALTER TABLE jobs ADD COLUMN model_id TEXT;
CREATE INDEX jobs_without_device ON jobs (priority DESC, number)
  WHERE state = 'queued' AND needs_device = 0;
CREATE INDEX jobs_by_model ON jobs (model_id, number) WHERE model_id IS NOT NULL;
"""


@migrations()
def m0013_kinds(db: Connection) -> None:
    """Jobs without a device, and the models jobs start from."""
    execute(db, _COLUMNS)
