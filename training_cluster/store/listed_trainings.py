"""What a list of training sessions holds: the sessions, and each training that another API asked
for as a session of its own."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping

from training_cluster.domain.job import ACTIVE, JobState
from training_cluster.domain.session_errors import SessionNotFound
from training_cluster.domain.training_session import LOCAL, SessionStatus, TrainingSession
from training_cluster.store import jobs, models, training_sessions

_ELSEWHERE = "kind = 'train' AND (request IS NULL OR request ->> '$.dialect' <> 'vertesia')"
_JOB = "SELECT id FROM jobs WHERE id = ? AND {elsewhere}"
# of each kind as many as the page could need: never more than twice that is sorted
_PAGE = """
SELECT * FROM (
  SELECT id, created_at, number, 1 AS is_own FROM ({sessions})
  WHERE :status IS NULL OR status = :status ORDER BY number DESC LIMIT :most)
UNION ALL
SELECT * FROM (
  SELECT id, created_at, number, 0 AS is_own FROM jobs
  WHERE {elsewhere} AND (:states IS NULL OR state IN (SELECT value FROM json_each(:states)))
  ORDER BY number DESC LIMIT :most)
ORDER BY created_at DESC, is_own, number DESC LIMIT :limit OFFSET :offset"""

STATUSES: Mapping[JobState, SessionStatus] = {
    **dict.fromkeys((JobState.QUEUED, JobState.PAUSED, *ACTIVE), SessionStatus.PROCESSING),
    JobState.COMPLETED: SessionStatus.COMPLETED,
    JobState.FAILED: SessionStatus.FAILED,
    JobState.CANCELLED: SessionStatus.CANCELLED,
}
"""What the session of a job amounts to that another API asked for."""


def page(
    connection: sqlite3.Connection, status: SessionStatus | None, limit: int, offset: int
) -> list[TrainingSession]:
    """Sessions and trainings that came another way, newest first, without their runs."""
    states = [state.value for state, amounts in STATUSES.items() if amounts is status]
    values = {
        "status": status and status.value,
        "states": None if status is None else json.dumps(states),
        "most": limit + offset,
        "limit": limit,
        "offset": offset,
    }
    query = _PAGE.format(sessions=training_sessions.DERIVED, elsewhere=_ELSEWHERE)
    rows = connection.execute(query, values).fetchall()
    return [
        training_sessions.find(connection, row["id"], with_runs=False)
        if row["is_own"]
        else _as_session(connection, row["id"])
        for row in rows
    ]


def find(connection: sqlite3.Connection, session_id: str) -> TrainingSession:
    """A session by id, with the ids of its runs, or what stands for a job that came another way,
    by the job's. Raises SessionNotFound."""
    try:
        return training_sessions.find(connection, session_id)
    except SessionNotFound:
        row = connection.execute(
            _JOB.format(elsewhere=_ELSEWHERE), (session_id.lower(),)
        ).fetchone()
        if row is None:
            raise
    return _as_session(connection, row["id"])


def _as_session(connection: sqlite3.Connection, job_id: str) -> TrainingSession:
    job, model = jobs.find(connection, job_id), models.by_job(connection, job_id)
    return TrainingSession(
        id=job.id,
        number=0,
        user=job.user,
        name=job.spec.name,
        environment=LOCAL.id,
        model=job.spec.model_name,
        status=STATUSES[job.state],
        created_at=job.created_at,
        updated_at=job.created_at,
        updated_by=job.user,
        dataset=job.spec.dataset_version,
        job=job,
        trained=model.key if model else None,
        warnings=job.warnings,
        is_own=False,
    )
