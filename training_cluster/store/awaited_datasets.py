"""Jobs that wait for their dataset to be checked, and the end of that wait."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from training_cluster.domain.job import Job, JobError, JobState
from training_cluster.store import jobs

_ARRIVED = """
SELECT j.id FROM jobs j INDEXED BY jobs_awaiting_datasets
LEFT JOIN datasets d ON d.id = j.dataset_id
WHERE j.dataset_pending = 1 AND j.state = 'queued'
  AND (d.id IS NULL OR d.state <> 'checking' OR d.deleted_at IS NOT NULL)
ORDER BY j.number LIMIT ?"""
_ADMIT = """
UPDATE jobs SET dataset_pending = 0, disk_bytes = ?, warnings = ?
WHERE number = ? AND state = 'queued' AND dataset_pending = 1"""
_CLEAR = "UPDATE jobs SET dataset_pending = 0 WHERE number = ?"


def arrived(connection: sqlite3.Connection, limit: int) -> list[Job]:
    """Queued jobs whose dataset was checked in the meantime, the oldest first."""
    found = connection.execute(_ARRIVED, (limit,)).fetchall()
    return [jobs.find(connection, row["id"]) for row in found]


def admit(
    connection: sqlite3.Connection, job: Job, warnings: Sequence[str], disk_bytes: int
) -> None:
    """Let a job go on: it may be given devices from now on. What it was warned of already is not
    said twice. Raises StaleTransition."""
    listed = json.dumps(list(dict.fromkeys((*job.warnings, *warnings))))
    jobs.guard(connection.execute(_ADMIT, (disk_bytes, listed, job.number)), job)


def refuse(connection: sqlite3.Connection, job: Job, error: JobError, now: float) -> None:
    """Fail a job: it cannot train on its dataset. Raises StaleTransition."""
    jobs.end_unstarted(connection, job, JobState.FAILED, now, error)
    connection.execute(_CLEAR, (job.number,))
