"""Who gets in: tokens and the logins made with them; which webhooks may tell of others' jobs."""

from __future__ import annotations

from sqlite3 import Connection

from training_cluster.store.migrations.steps import execute, migrations

_IDENTITY = """
CREATE TABLE tokens (
  id            TEXT PRIMARY KEY,
  secret_sha256 BLOB NOT NULL CHECK (length(secret_sha256) = 32),
  user          TEXT NOT NULL,
  role          TEXT NOT NULL CHECK (role IN ('viewer', 'submitter', 'admin')),
  label         TEXT NOT NULL DEFAULT '',
  made_by       TEXT NOT NULL,
  created_at    REAL NOT NULL,
  expires_at    REAL,
  last_used_at  REAL,
  revoked_at    REAL
) STRICT;

CREATE TABLE sessions (
  secret_sha256 BLOB PRIMARY KEY CHECK (length(secret_sha256) = 32),
  token_id      TEXT NOT NULL REFERENCES tokens (id),
  created_at    REAL NOT NULL,
  expires_at    REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_of_tokens ON sessions (token_id);

ALTER TABLE webhooks ADD COLUMN sees_all INTEGER NOT NULL DEFAULT 0 CHECK (sees_all IN (0, 1));
UPDATE webhooks SET sees_all = 1 WHERE user = 'root';
"""


@migrations()
def m0003_identity(db: Connection) -> None:
    """Tokens, sessions, and the webhooks of admins, which are told everything of every job."""
    execute(db, _IDENTITY)
