"""Training sessions in SQLite, and the runs that are in them.

What state a session is in is derived here, in one expression, from its newest job and from the
dataset that was last made in it or chosen for it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from training_cluster.domain.interaction import InteractionRun
from training_cluster.domain.job import Job
from training_cluster.domain.session_errors import SessionNotFound
from training_cluster.domain.training_session import SessionStatus, TrainingSession
from training_cluster.store import interaction_runs, jobs

_INSERT = """
INSERT INTO training_sessions
  (id, user, name, environment, model, options, warnings, created_at, updated_at, updated_by)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
# +: a column of text compared with what has no affinity would not be looked up by index
_FACTS = """
SELECT s.*, j.id AS job_id, j.state AS job_state, j.created_at AS job_at,
  coalesce(d.id, folder.id) AS current_id,
  coalesce(d.name || '@' || d.version, folder.id) AS dataset,
  coalesce(d.state, 'ready') AS dataset_state,
  CASE WHEN s.dataset_id IN (d.id, folder.id) THEN s.chosen_at ELSE d.created_at END AS dataset_at,
  max(s.updated_at, coalesce(d.created_at, 0), coalesce(d.checked_at, 0)) AS changed_at,
  m.name || '@' || m.version AS trained
FROM training_sessions s
LEFT JOIN jobs j ON j.number = (
  SELECT max(number) FROM jobs WHERE request IS NOT NULL AND request ->> '$.data.session' = +s.id)
LEFT JOIN models m ON m.job_id = j.id
LEFT JOIN datasets made ON made.number = (
  SELECT max(number) FROM datasets
  WHERE asked ->> '$.request.data.session' = +s.id AND deleted_at IS NULL)
LEFT JOIN datasets chosen ON chosen.id = s.dataset_id AND chosen.deleted_at IS NULL
LEFT JOIN (SELECT id AS session, dataset_id AS id FROM training_sessions WHERE is_folder) folder
  ON folder.session = s.id AND (made.id IS NULL OR s.chosen_at >= made.created_at)
LEFT JOIN datasets d ON folder.id IS NULL AND d.id = CASE
  WHEN made.id IS NULL OR s.chosen_at >= made.created_at THEN coalesce(chosen.id, made.id)
  ELSE made.id END"""
# what came last decides: a dataset that is newer than a job that is over begins another round
DERIVED = (
    """
SELECT *, CASE
  WHEN job_state NOT IN ('completed', 'failed', 'cancelled') THEN 'processing'
  WHEN job_state IS NOT NULL AND (current_id IS NULL OR dataset_at <= job_at) THEN job_state
  WHEN current_id IS NULL THEN 'created'
  WHEN dataset_state = 'checking' THEN 'building'
  WHEN dataset_state = 'invalid' THEN 'failed'
  ELSE 'prepared' END AS status
FROM ("""
    + _FACTS
    + ")"
)
_ONE = DERIVED + " WHERE id = ?"
_CHOOSE = """
UPDATE training_sessions SET dataset_id = ?, is_folder = ?, chosen_at = ? WHERE number = ?"""
_TOUCH = "UPDATE training_sessions SET updated_at = ?, updated_by = ? WHERE number = ?"
_ADD = """
INSERT INTO training_session_runs (session_number, run_number)
SELECT ?, number FROM interaction_runs WHERE id = ? AND (?3 IS NULL OR user = ?3)
ON CONFLICT (session_number, run_number) DO NOTHING"""
_HAS = """
SELECT 1 FROM training_session_runs m JOIN interaction_runs r ON r.number = m.run_number
WHERE m.session_number = ? AND r.id = ?"""
_RUNS = """
SELECT r.* FROM training_session_runs m JOIN interaction_runs r ON r.number = m.run_number
WHERE m.session_number = ? ORDER BY m.position LIMIT ? OFFSET ?"""
_RUNS_BEHIND = """
SELECT m.position, r.* FROM training_session_runs m
JOIN interaction_runs r ON r.number = m.run_number
WHERE m.session_number = ? AND m.position > ? ORDER BY m.position LIMIT ?"""
_RUN_IDS = """
SELECT r.id FROM training_session_runs m JOIN interaction_runs r ON r.number = m.run_number
WHERE m.session_number = ? ORDER BY m.position"""
_BUILT = """
SELECT id FROM datasets
WHERE asked ->> '$.request.data.session' = ? AND origin = 'rows' AND deleted_at IS NULL
ORDER BY number DESC LIMIT 1"""
_UPLOAD = """
SELECT id FROM uploads WHERE asked ->> '$.request.data.session' = ? AND done_at IS NULL
ORDER BY created_at DESC, id DESC LIMIT 1"""


def insert(connection: sqlite3.Connection, new: TrainingSession) -> None:
    """Add a session; its number and status are not looked at."""
    words = (json.dumps(dict(new.options)), json.dumps(new.warnings))
    said = (new.name, new.environment, new.model, *words)
    times = (new.created_at, new.updated_at, new.updated_by)
    connection.execute(_INSERT, (new.id, new.user, *said, *times))


def find(
    connection: sqlite3.Connection, session_id: str, *, with_runs: bool = True
) -> TrainingSession:
    """A session by id, with the ids of its runs. Raises SessionNotFound."""
    row = connection.execute(_ONE, (session_id.lower(),)).fetchone()
    if row is None:
        hint = "GET /api/v1/training lists the sessions"
        raise SessionNotFound(f"there is no session {session_id[:64]!r}", hint=hint)
    found = connection.execute(_RUN_IDS, (row["number"],)) if with_runs else ()
    return _session(connection, row, tuple(each["id"] for each in found))


def touch(connection: sqlite3.Connection, session: TrainingSession, by: str, now: float) -> None:
    """Record who changed a session, and when."""
    connection.execute(_TOUCH, (now, by, session.number))


def add_runs(
    connection: sqlite3.Connection,
    session: TrainingSession,
    run_ids: Sequence[str],
    of_user: str | None,
) -> None:
    """Put runs of `of_user`'s (None: of anybody's) into a session; those that are in it stay where
    they are. Raises RunNotFound for the first that is not there."""
    for run_id in run_ids:
        added = connection.execute(_ADD, (session.number, run_id.lower(), of_user)).rowcount
        if not added and not _has(connection, session, run_id):
            raise interaction_runs.unknown(run_id)


def _has(connection: sqlite3.Connection, session: TrainingSession, run_id: str) -> bool:
    values = (session.number, run_id.lower())
    return connection.execute(_HAS, values).fetchone() is not None


def runs(
    connection: sqlite3.Connection, session: TrainingSession, limit: int, offset: int = 0
) -> list[InteractionRun]:
    """The runs of a session in the order in which they were added."""
    found = connection.execute(_RUNS, (session.number, limit, offset))
    return [interaction_runs.run_of(row) for row in found]


def runs_behind(
    connection: sqlite3.Connection, session: TrainingSession, position: int, limit: int
) -> tuple[list[InteractionRun], int]:
    """The next runs of a session behind a position, 0 for the first, and the position of the last
    of them."""
    found = connection.execute(_RUNS_BEHIND, (session.number, position, limit)).fetchall()
    last = found[-1]["position"] if found else position
    return [interaction_runs.run_of(row) for row in found], last


def choose(
    connection: sqlite3.Connection,
    session: TrainingSession,
    dataset_id: str,
    now: float,
    *,
    is_folder: bool,
) -> None:
    """Have a session train on a dataset that was not made in it, or not last: one that was handed
    in, or a version that is registered in a folder."""
    connection.execute(_CHOOSE, (dataset_id, int(is_folder), now, session.number))


def built(connection: sqlite3.Connection, session: TrainingSession) -> str | None:
    """The id of the dataset that was last built of a session's runs."""
    row = connection.execute(_BUILT, (session.id,)).fetchone()
    return None if row is None else str(row["id"])


def awaited_upload(connection: sqlite3.Connection, session: TrainingSession) -> str | None:
    """The id of the upload under way that was last begun for a session."""
    row = connection.execute(_UPLOAD, (session.id,)).fetchone()
    return None if row is None else str(row["id"])


def _session(
    connection: sqlite3.Connection, row: sqlite3.Row, run_ids: tuple[str, ...] = ()
) -> TrainingSession:
    return TrainingSession(
        id=row["id"],
        number=row["number"],
        user=row["user"],
        name=row["name"],
        environment=row["environment"],
        model=row["model"],
        status=SessionStatus(row["status"]),
        created_at=row["created_at"],
        updated_at=row["changed_at"],
        updated_by=row["updated_by"],
        dataset=row["dataset"],
        dataset_id=row["current_id"],
        job=_job(connection, row["job_id"]),
        trained=row["trained"],
        options=json.loads(row["options"]),
        run_ids=run_ids,
        warnings=tuple(json.loads(row["warnings"])),
    )


def _job(connection: sqlite3.Connection, job_id: str | None) -> Job | None:
    return None if job_id is None else jobs.find(connection, job_id)
