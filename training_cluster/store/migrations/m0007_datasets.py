"""Datasets that people hand in, uploads on their way, and the jobs that train on them."""

from __future__ import annotations

from sqlite3 import Connection

from training_cluster.store.migrations.steps import execute, migrations

_DATASETS = """
CREATE TABLE datasets (
  number          INTEGER PRIMARY KEY AUTOINCREMENT,
  id              TEXT NOT NULL UNIQUE,
  name            TEXT NOT NULL,
  version         TEXT NOT NULL,
  user            TEXT NOT NULL,
  state           TEXT NOT NULL CHECK (state IN ('checking', 'ready', 'invalid')),
  origin          TEXT NOT NULL CHECK (origin IN ('upload', 'path', 'hub', 'rows')),
  filename        TEXT NOT NULL,
  bytes           INTEGER NOT NULL CHECK (bytes >= 0),
  asked           TEXT NOT NULL CHECK (json_valid(asked)),
  created_at      REAL NOT NULL,
  checked_at      REAL,
  deleted_at      REAL,
  sha256          TEXT,
  format          TEXT,
  columns         TEXT CHECK (columns IS NULL OR json_valid(columns)),
  rows            INTEGER,
  validation_rows INTEGER,
  original        TEXT,
  train_file      TEXT,
  validation_file TEXT,
  report          TEXT CHECK (report IS NULL OR json_valid(report)),
  error           TEXT,
  CHECK ((state = 'checking') = (checked_at IS NULL)),
  CHECK ((state = 'invalid') = (error IS NOT NULL)),
  CHECK (state <> 'ready' OR (sha256 IS NOT NULL AND format IS NOT NULL AND columns IS NOT NULL
         AND rows > 0 AND original IS NOT NULL AND train_file IS NOT NULL))
) STRICT;
CREATE UNIQUE INDEX datasets_by_name ON datasets (name, version);  -- of deleted ones, too
CREATE INDEX datasets_to_check ON datasets (number)
  WHERE state = 'checking' AND deleted_at IS NULL;

CREATE TABLE uploads (
  id          TEXT PRIMARY KEY,  -- also that of the dataset it becomes
  user        TEXT NOT NULL,
  total_bytes INTEGER CHECK (total_bytes >= 0),
  asked       TEXT NOT NULL CHECK (json_valid(asked)),
  created_at  REAL NOT NULL,
  done_at     REAL,              -- it has become a dataset
  key_sha256  BLOB NOT NULL CHECK (length(key_sha256) = 32)
) STRICT;
"""

_JOBS = """
ALTER TABLE jobs ADD COLUMN dataset_id TEXT;  -- of `datasets`; no REFERENCES: a rebuild keeps jobs
ALTER TABLE jobs ADD COLUMN dataset_pending INTEGER NOT NULL DEFAULT 0
  CHECK (dataset_pending = 0 OR (dataset_pending = 1 AND dataset_id IS NOT NULL));
CREATE INDEX jobs_of_datasets ON jobs (dataset_id) WHERE dataset_id IS NOT NULL;
CREATE INDEX jobs_awaiting_datasets ON jobs (number) WHERE dataset_pending = 1;
"""


@migrations()
def m0007_datasets(db: Connection) -> None:
    """Datasets, uploads; jobs that wait for a dataset to be checked."""
    execute(db, _DATASETS, _JOBS)
