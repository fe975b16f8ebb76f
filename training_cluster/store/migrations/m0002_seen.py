"""What is seen of jobs: metric lines, runs at trackers, webhooks and deliveries."""

from __future__ import annotations

from sqlite3 import Connection

from training_cluster.store.migrations.steps import execute, migrations

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


@migrations()
def m0002_lines_runs_webhooks(db: Connection) -> None:
    """What is seen: metric lines in place of points, runs at trackers, webhooks, deliveries."""
    execute(db, _LINES, _WEBHOOKS)
