"""What a dialect must remember of a job that it asked for."""

from __future__ import annotations

from sqlite3 import Connection

from training_cluster.store.migrations.steps import execute, migrations

_JOBS = """
ALTER TABLE jobs ADD COLUMN request TEXT CHECK (request IS NULL OR json_valid(request));
"""


@migrations()
def m0009_dialect_requests(db: Connection) -> None:
    """The dialect's own words beside the spec; NULL for jobs of the native API."""
    execute(db, _JOBS)
