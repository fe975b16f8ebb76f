"""Recorded interactions, and the training sessions that collect them.

What state a session is in is not stored: its newest dataset and job say so.
"""

from __future__ import annotations

from sqlite3 import Connection

from training_cluster.store.migrations.steps import execute, migrations

_RUNS = """
CREATE TABLE interaction_runs (
  number      INTEGER PRIMARY KEY AUTOINCREMENT,
  id          TEXT NOT NULL UNIQUE,
  user        TEXT NOT NULL,
  interaction TEXT NOT NULL,
  environment TEXT NOT NULL,
  model       TEXT,
  status      TEXT NOT NULL CHECK (status IN ('created', 'processing', 'completed', 'failed')),
  messages    TEXT NOT NULL CHECK (json_type(messages) = 'array'),
  output      TEXT,
  details     TEXT NOT NULL CHECK (json_valid(details)),
  created_at  REAL NOT NULL,
  CHECK (status <> 'completed' OR output IS NOT NULL)
) STRICT;
CREATE INDEX interaction_runs_by_user ON interaction_runs (user, number);
"""
_SESSIONS = """
CREATE TABLE training_sessions (
  number      INTEGER PRIMARY KEY AUTOINCREMENT,
  id          TEXT NOT NULL UNIQUE,
  user        TEXT NOT NULL,
  name        TEXT NOT NULL,
  environment TEXT NOT NULL,
  model       TEXT NOT NULL,
  options     TEXT NOT NULL CHECK (json_valid(options)),
  warnings    TEXT NOT NULL CHECK (json_valid(warnings)),
  dataset_id  TEXT,  -- when somebody chose one: of `datasets`, or the version of a folder
  is_folder   INTEGER NOT NULL DEFAULT 0 CHECK (is_folder IN (0, 1)),
  chosen_at   REAL,
  created_at  REAL NOT NULL,
  updated_at  REAL NOT NULL,
  updated_by  TEXT NOT NULL,
  CHECK ((dataset_id IS NULL) = (chosen_at IS NULL))
) STRICT;
CREATE TABLE training_session_runs (
  position       INTEGER PRIMARY KEY AUTOINCREMENT,
  session_number INTEGER NOT NULL REFERENCES training_sessions (number),
  run_number     INTEGER NOT NULL REFERENCES interaction_runs (number),
  UNIQUE (session_number, run_number)
) STRICT;
"""
# jobs and datasets that were made in a session remember it
_MADE = """
CREATE INDEX jobs_of_sessions ON jobs (request ->> '$.data.session', number)
  WHERE request IS NOT NULL;
CREATE INDEX datasets_of_sessions ON datasets (asked ->> '$.request.data.session', number);
"""


@migrations()
def m0010_sessions(db: Connection) -> None:
    """Runs, sessions, which runs are in which session; jobs and datasets are found by it."""
    execute(db, _RUNS, _SESSIONS, _MADE)
