"""The jobs that were made of a model: exports, evaluations, further trainings."""

from __future__ import annotations

import sqlite3

from training_cluster.domain.job import Job
from training_cluster.store import jobs

_LATEST = """
SELECT id FROM jobs INDEXED BY jobs_by_model WHERE model_id = ? AND kind = ?
ORDER BY number DESC LIMIT 1"""


def latest(connection: sqlite3.Connection, model_id: str, kind: str) -> Job | None:
    """The latest job of a kind that started from a model."""
    row = connection.execute(_LATEST, (model_id, kind)).fetchone()
    return None if row is None else jobs.find(connection, row["id"])
