"""Jobs that take no device: those that wait, and how many are under way."""

from __future__ import annotations

import sqlite3

from training_cluster.domain.job import Job, QueuedJob
from training_cluster.store import jobs

_QUEUED = f"""{jobs.IN_QUEUE} INDEXED BY jobs_without_device
WHERE state = 'queued' AND needs_device = 0 ORDER BY priority DESC, number LIMIT ?"""
_RUNNING = """
SELECT count(*) FROM attempts a INDEXED BY one_active_attempt_per_job
JOIN jobs j ON j.number = a.job_number WHERE a.ended_at IS NULL AND j.needs_device = 0"""

_DOWNLOADS = """
SELECT id FROM jobs INDEXED BY jobs_by_state WHERE state IN
  ('queued', 'preparing', 'running', 'stopping', 'paused') AND kind = 'download' ORDER BY number"""


def queued(connection: sqlite3.Connection, limit: int) -> list[QueuedJob]:
    """The first of those that wait, in queue order."""
    return [jobs.in_queue(connection, row) for row in connection.execute(_QUEUED, (limit,))]


def running(connection: sqlite3.Connection) -> int:
    """How many are under way."""
    count: int = connection.execute(_RUNNING).fetchone()[0]
    return count


def downloads(connection: sqlite3.Connection) -> list[Job]:
    """The downloads that are not over, oldest first."""
    found = [row["id"] for row in connection.execute(_DOWNLOADS)]
    return [jobs.find(connection, job_id) for job_id in found]
