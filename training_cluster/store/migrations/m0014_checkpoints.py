"""Jobs that start from a checkpoint of another job are found while they are not over."""

from __future__ import annotations

from sqlite3 import Connection

from training_cluster.store.migrations.steps import execute, migrations

_INDEX = """
CREATE INDEX jobs_from_checkpoints ON jobs (spec ->> 'checkpoint', number)
  WHERE finished_at IS NULL AND spec ->> 'checkpoint' IS NOT NULL;
"""


@migrations()
def m0014_checkpoints(db: Connection) -> None:
    """An index of the jobs that use a checkpoint."""
    execute(db, _INDEX)
