"""The first schema: jobs, attempts, leases, holds, events and counters."""

from __future__ import annotations

from sqlite3 import Connection

from training_cluster.store.migrations.steps import execute, migrations

_JOBS = """
CREATE TABLE jobs (
  number           INTEGER PRIMARY KEY AUTOINCREMENT,
  id               TEXT NOT NULL UNIQUE,
  kind             TEXT NOT NULL,
  state            TEXT NOT NULL CHECK (state IN ('queued', 'preparing', 'running', 'stopping',
                     'paused', 'completed', 'failed', 'cancelled')),
  user             TEXT NOT NULL,
  spec             TEXT NOT NULL CHECK (json_valid(spec)),
  priority         INTEGER NOT NULL,
  gpus             INTEGER NOT NULL CHECK (gpus >= 1),
  min_memory_bytes INTEGER NOT NULL CHECK (min_memory_bytes >= 0),
  depends_on       TEXT NOT NULL CHECK (json_valid(depends_on)),
  attempt_number   INTEGER NOT NULL DEFAULT 0,
  created_at       REAL NOT NULL,
  started_at       REAL,
  finished_at      REAL,
  not_before       REAL,
  progress         TEXT CHECK (progress IS NULL OR json_valid(progress)),
  metrics          TEXT CHECK (metrics IS NULL OR json_valid(metrics)),
  error_code       TEXT,
  error_message    TEXT,
  error_hint       TEXT,
  result           TEXT CHECK (result IS NULL OR json_valid(result)),
  warnings         TEXT NOT NULL CHECK (json_valid(warnings)),
  idempotency_key  TEXT,
  request_sha256   TEXT,
  CHECK ((state IN ('completed', 'failed', 'cancelled')) = (finished_at IS NOT NULL)),
  CHECK ((state = 'failed') = (error_code IS NOT NULL)),
  CHECK (state NOT IN ('preparing', 'running', 'stopping') OR attempt_number >= 1)
) STRICT;
CREATE INDEX jobs_in_queue_order ON jobs (priority DESC, number) WHERE state = 'queued';
CREATE INDEX jobs_by_state ON jobs (state, number);
CREATE INDEX jobs_by_user ON jobs (user, number);
CREATE INDEX jobs_with_dependencies ON jobs (number) WHERE state = 'queued' AND depends_on <> '[]';
CREATE UNIQUE INDEX jobs_idempotency ON jobs (user, idempotency_key)
  WHERE idempotency_key IS NOT NULL;
"""

_ATTEMPTS = """
CREATE TABLE attempts (
  job_number   INTEGER NOT NULL REFERENCES jobs (number),
  number       INTEGER NOT NULL CHECK (number >= 1),
  directory    TEXT NOT NULL UNIQUE,
  created_at   REAL NOT NULL,
  started_at   REAL,
  ended_at     REAL,
  outcome      TEXT,
  exit_code    INTEGER,
  stop_reason  TEXT,
  master_port  INTEGER,
  log_offset   INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (job_number, number),
  CHECK ((ended_at IS NULL) = (outcome IS NULL))
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX one_active_attempt_per_job ON attempts (job_number) WHERE ended_at IS NULL;
CREATE UNIQUE INDEX one_attempt_per_master_port ON attempts (master_port)
  WHERE ended_at IS NULL AND master_port IS NOT NULL;

CREATE TABLE leases (
  device_uuid    TEXT NOT NULL,
  job_number     INTEGER NOT NULL,
  attempt_number INTEGER NOT NULL,
  leased_at      REAL NOT NULL,
  released_at    REAL,
  FOREIGN KEY (job_number, attempt_number) REFERENCES attempts (job_number, number)
) STRICT;
CREATE UNIQUE INDEX one_active_lease_per_device ON leases (device_uuid) WHERE released_at IS NULL;
CREATE INDEX leases_by_attempt ON leases (job_number, attempt_number);

CREATE TABLE holds (
  device_uuid TEXT PRIMARY KEY,
  user        TEXT NOT NULL,
  reason      TEXT NOT NULL,
  created_at  REAL NOT NULL,
  until       REAL
) STRICT, WITHOUT ROWID;
"""

_FACTS = """
CREATE TABLE events (
  sequence       INTEGER PRIMARY KEY AUTOINCREMENT,
  time           REAL NOT NULL,
  type           TEXT NOT NULL,
  job_number     INTEGER REFERENCES jobs (number),
  attempt_number INTEGER,
  data           TEXT NOT NULL CHECK (json_valid(data))
) STRICT;
CREATE INDEX events_by_job ON events (job_number, sequence) WHERE job_number IS NOT NULL;

CREATE TABLE metric_points (
  job_number     INTEGER NOT NULL REFERENCES jobs (number),
  name           TEXT NOT NULL,
  step           INTEGER NOT NULL,
  attempt_number INTEGER NOT NULL,
  time           REAL NOT NULL,
  value          REAL NOT NULL,
  PRIMARY KEY (job_number, name, step)
) STRICT, WITHOUT ROWID;

CREATE TABLE job_counts (
  state    TEXT NOT NULL,
  priority INTEGER NOT NULL,
  jobs     INTEGER NOT NULL CHECK (jobs >= 0),
  PRIMARY KEY (state, priority)
) STRICT, WITHOUT ROWID;
"""

_COUNT_UP = """INSERT INTO job_counts (state, priority, jobs) VALUES (NEW.state, NEW.priority, 1)
    ON CONFLICT (state, priority) DO UPDATE SET jobs = jobs + 1;"""
_COUNT_DOWN = """UPDATE job_counts SET jobs = jobs - 1
    WHERE state = OLD.state AND priority = OLD.priority;"""
_COUNTERS = f"""
CREATE TRIGGER count_inserted_job AFTER INSERT ON jobs BEGIN {_COUNT_UP} END;
CREATE TRIGGER count_deleted_job AFTER DELETE ON jobs BEGIN {_COUNT_DOWN} END;
CREATE TRIGGER count_moved_job AFTER UPDATE OF state, priority ON jobs
WHEN OLD.state <> NEW.state OR OLD.priority <> NEW.priority
BEGIN {_COUNT_DOWN} {_COUNT_UP} END;
"""


@migrations()
def m0001_jobs_attempts_leases_events(db: Connection) -> None:
    """The spine: jobs, attempts, leases, holds, events, metric points and counters."""
    execute(db, _JOBS, _ATTEMPTS, _FACTS, _COUNTERS)
