"""What jobs need of the disk, and what of them was removed from it."""

from __future__ import annotations

from sqlite3 import Connection

from training_cluster.store.migrations.steps import execute, migrations

_JOBS = """
ALTER TABLE jobs ADD COLUMN disk_bytes INTEGER NOT NULL DEFAULT 0 CHECK (disk_bytes >= 0);
ALTER TABLE jobs ADD COLUMN pruned TEXT CHECK (pruned IS NULL OR json_valid(pruned));
CREATE INDEX jobs_by_end ON jobs (finished_at) WHERE finished_at IS NOT NULL;
"""


@migrations()
def m0006_storage(db: Connection) -> None:
    """An attempt's need in bytes; what was pruned of a job and when; finished jobs by age."""
    execute(db, _JOBS)
