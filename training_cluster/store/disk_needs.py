"""What running attempts were estimated to write."""

from __future__ import annotations

import sqlite3

_OF_ACTIVE = """
SELECT a.directory, j.disk_bytes FROM attempts a INDEXED BY one_active_attempt_per_job
JOIN jobs j ON j.number = a.job_number WHERE a.ended_at IS NULL"""


def of_active(connection: sqlite3.Connection) -> dict[str, int]:
    """Bytes by attempt directory, of the attempts that have not ended."""
    return {row["directory"]: row["disk_bytes"] for row in connection.execute(_OF_ACTIVE)}
