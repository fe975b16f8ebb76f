"""The schema as numbered steps; a step that has landed is never edited, only followed.

The database refuses nonsense by itself: CHECKs tie end times and errors to states, a partial
unique index makes leasing one device twice impossible, triggers keep the counters true.
"""

from __future__ import annotations

import sqlite3

from sqlite_utils import Database, Migrations

migrations = Migrations("training_cluster")

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

_LINES = """
CREATE INDEX events_by_type ON events (type, sequence);

CREATE TABLE metric_lines (
  sequence       INTEGER PRIMARY KEY AUTOINCREMENT,
  job_number     INTEGER NOT NULL REFERENCES jobs (number),
  attempt_number INTEGER NOT NULL,
  source         TEXT NOT NULL CHECK (source IN ('trainer', 'telemetry')),
  step           INTEGER NOT NULL,
  time           REAL NOT NULL,
  metrics        TEXT NOT NULL CHECK (json_valid(metrics)),
  superseded_by  INTEGER  -- the attempt that went back to this step or before it
) STRICT;
CREATE INDEX metric_lines_by_job ON metric_lines (job_number, sequence);
INSERT INTO metric_lines (job_number, attempt_number, source, step, time, metrics)
  SELECT job_number, attempt_number, 'trainer', step, min(time), json_group_object(name, value)
  FROM metric_points GROUP BY job_number, step, attempt_number ORDER BY job_number, step;
DROP TABLE metric_points;

CREATE TABLE tracker_runs (
  job_number     INTEGER NOT NULL REFERENCES jobs (number),
  tracker        TEXT NOT NULL,
  number         INTEGER NOT NULL CHECK (number >= 1),
  attempt_number INTEGER NOT NULL,  -- the attempt that began this run
  state          TEXT NOT NULL CHECK (state IN ('waiting', 'open', 'ended', 'refused')),
  run_id         TEXT,
  url            TEXT,
  sent_lines     INTEGER NOT NULL DEFAULT 0,
  sent_sequence  INTEGER NOT NULL DEFAULT 0,
  message        TEXT,
  PRIMARY KEY (job_number, tracker, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX tracker_runs_to_do ON tracker_runs (tracker, job_number)
  WHERE state IN ('waiting', 'open');
"""

_WEBHOOKS = """
CREATE TABLE webhooks (
  id              TEXT PRIMARY KEY,
  format          TEXT NOT NULL,
  url             TEXT NOT NULL,  -- masked; address and secrets lie in a file of their own
  user            TEXT NOT NULL,
  events          TEXT NOT NULL CHECK (json_valid(events)),
  only_user       TEXT,
  job_number      INTEGER REFERENCES jobs (number),
  description     TEXT NOT NULL DEFAULT '',
  created_at      REAL NOT NULL,
  disabled_at     REAL,
  disabled_reason TEXT,
  deleted_at      REAL,
  CHECK ((disabled_at IS NULL) = (disabled_reason IS NULL))
) STRICT;
CREATE INDEX standing_webhooks ON webhooks (id)
  WHERE job_number IS NULL AND disabled_at IS NULL AND deleted_at IS NULL;
CREATE INDEX webhooks_of_jobs ON webhooks (job_number) WHERE job_number IS NOT NULL;

CREATE TABLE deliveries (
  id             INTEGER PRIMARY KEY AUTOINCREMENT,
  webhook_id     TEXT NOT NULL REFERENCES webhooks (id),
  event_sequence INTEGER NOT NULL REFERENCES events (sequence),
  job_number     INTEGER REFERENCES jobs (number),
  job_sequence   INTEGER,
  message_id     TEXT NOT NULL UNIQUE,
  state          TEXT NOT NULL CHECK (state IN ('pending', 'delivered', 'failed', 'dropped')),
  tries          INTEGER NOT NULL DEFAULT 0,
  created_at     REAL NOT NULL,
  next_at        REAL,
  body           BLOB,
  last_status    INTEGER,
  last_error     TEXT,
  delivered_at   REAL,
  CHECK ((state = 'pending') = (next_at IS NOT NULL)),
  CHECK ((state = 'delivered') = (delivered_at IS NOT NULL))
) STRICT;
CREATE INDEX deliveries_due ON deliveries (next_at) WHERE state = 'pending';
CREATE INDEX deliveries_by_webhook ON deliveries (webhook_id, id);
CREATE INDEX deliveries_of_job ON deliveries (job_number, webhook_id)
  WHERE job_number IS NOT NULL;

CREATE INDEX deliveries_pending ON deliveries (id) WHERE state = 'pending';
CREATE TABLE delivery_counts (
  state      TEXT PRIMARY KEY,
  deliveries INTEGER NOT NULL  -- those that are pending; of the other states, how often reached
) STRICT, WITHOUT ROWID;
INSERT INTO delivery_counts VALUES ('pending', 0), ('delivered', 0), ('failed', 0), ('dropped', 0);
CREATE TRIGGER count_new_delivery AFTER INSERT ON deliveries WHEN NEW.state = 'pending'
BEGIN
  UPDATE delivery_counts SET deliveries = deliveries + 1 WHERE state = 'pending';
END;
CREATE TRIGGER count_moved_delivery AFTER UPDATE OF state ON deliveries
WHEN OLD.state <> NEW.state
BEGIN
  UPDATE delivery_counts SET deliveries = deliveries + 1 WHERE state = NEW.state;
  UPDATE delivery_counts SET deliveries = deliveries - 1
    WHERE state = 'pending' AND OLD.state = 'pending';
END;

CREATE TABLE attempt_counts (
  outcome  TEXT PRIMARY KEY,
  attempts INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO attempt_counts (outcome, attempts)
  SELECT outcome, count(*) FROM attempts WHERE outcome IS NOT NULL GROUP BY outcome;
CREATE TRIGGER count_ended_attempt AFTER UPDATE OF outcome ON attempts
WHEN OLD.outcome IS NULL AND NEW.outcome IS NOT NULL
BEGIN
  INSERT INTO attempt_counts (outcome, attempts) VALUES (NEW.outcome, 1)
    ON CONFLICT (outcome) DO UPDATE SET attempts = attempts + 1;
END;
"""


def _statements(script: str) -> list[str]:
    """Split a script at statement ends; `executescript` would commit behind our back."""
    found, pending = [], ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            found.append(pending.strip())
            pending = ""
    return found


@migrations()
def m0001_jobs_attempts_leases_events(db: Database) -> None:
    """The spine: jobs, attempts, leases, holds, events, metric points and counters."""
    for script in (_JOBS, _ATTEMPTS, _FACTS, _COUNTERS):
        for statement in _statements(script):
            db.execute(statement)


@migrations()
def m0002_lines_runs_webhooks(db: Database) -> None:
    """What is seen: metric lines in place of points, runs at trackers, webhooks, deliveries."""
    for script in (_LINES, _WEBHOOKS):
        for statement in _statements(script):
            db.execute(statement)
