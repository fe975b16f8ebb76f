"""A job as plain rows: written beside its attempts, read back when the database is lost."""

from __future__ import annotations

import sqlite3
from typing import Any

_JOB = "SELECT * FROM jobs WHERE id = ?"
_ATTEMPTS = "SELECT * FROM attempts WHERE job_number = ? ORDER BY number"
_LEASES = "SELECT * FROM leases WHERE job_number = ? ORDER BY attempt_number, device_uuid"
_MODELS = "SELECT * FROM models WHERE job_id = ?"
_ALIASES = "SELECT * FROM model_aliases WHERE model_number = ? ORDER BY alias"
_ACTIVE = """
SELECT j.id FROM attempts a JOIN jobs j ON j.number = a.job_number WHERE a.ended_at IS NULL"""
FORMAT = 1


def record(connection: sqlite3.Connection, job_id: str) -> dict[str, Any] | None:
    """The rows of a job, its attempts, their devices and its model; None when there is no such
    job. There is no secret in them: addresses of webhooks are masked in the database."""
    job = connection.execute(_JOB, (job_id,)).fetchone()
    if job is None:
        return None
    key = (job["number"],)
    model = connection.execute(_MODELS, (job_id,)).fetchone()
    return {
        "format": FORMAT,
        "job": dict(job),
        "attempts": [dict(row) for row in connection.execute(_ATTEMPTS, key)],
        "leases": [dict(row) for row in connection.execute(_LEASES, key)],
        "model": None if model is None else dict(model),
        "aliases": [dict(row) for row in connection.execute(_ALIASES, (model["number"],))]
        if model is not None
        else [],
    }


def active(connection: sqlite3.Connection) -> set[str]:
    """Ids of the jobs that have an attempt under way."""
    return {row["id"] for row in connection.execute(_ACTIVE)}
