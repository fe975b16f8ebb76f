"""Tokens and sessions in SQLite, each change with its event in the audit trail."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

from training_cluster.domain.event import EventType
from training_cluster.domain.principal import Role
from training_cluster.domain.token import Session, Token
from training_cluster.store import events

_INSERT = """
INSERT INTO tokens (id, secret_sha256, user, role, label, made_by, created_at, expires_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""
_ALL = "SELECT * FROM tokens ORDER BY created_at, id"
_COUNT = "SELECT count(*) FROM tokens"
_REVOKE = "UPDATE tokens SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL"
_USED = "UPDATE tokens SET last_used_at = max(coalesce(last_used_at, 0), ?) WHERE id = ?"
_LOG_IN = """
INSERT INTO sessions (secret_sha256, token_id, created_at, expires_at) VALUES (?, ?, ?, ?)"""
_LOG_OUT = "DELETE FROM sessions WHERE secret_sha256 = ?"
_END_SESSIONS = "DELETE FROM sessions WHERE token_id = ?"
_EXPIRE = "DELETE FROM sessions WHERE expires_at <= ?"
_SESSIONS = "SELECT * FROM sessions WHERE expires_at > ?"


def insert(connection: sqlite3.Connection, token: Token) -> None:
    """Add a token, with `token.created` in the log."""
    values = (
        token.id,
        token.secret_sha256,
        token.user,
        token.role.value,
        token.label,
        token.made_by,
        token.created_at,
        token.expires_at,
    )
    connection.execute(_INSERT, values)
    data = {
        "token": token.id,
        "user": token.user,
        "role": token.role.value,
        "label": token.label,
        "expires_at": token.expires_at,
        "by": token.made_by,
    }
    events.append(connection, token.created_at, EventType.TOKEN_CREATED, data=data)


def all_of(connection: sqlite3.Connection) -> list[Token]:
    """Every token there ever was, oldest first."""
    return [_token(row) for row in connection.execute(_ALL)]


def is_empty(connection: sqlite3.Connection) -> bool:
    """Whether there has never been a token."""
    return int(connection.execute(_COUNT).fetchone()[0]) == 0


def revoke(connection: sqlite3.Connection, token: Token, by: str, now: float) -> None:
    """End a token and its sessions; one that is revoked already stays as it is."""
    if connection.execute(_REVOKE, (now, token.id)).rowcount == 0:
        return
    connection.execute(_END_SESSIONS, (token.id,))
    data = {"token": token.id, "user": token.user, "label": token.label, "by": by}
    events.append(connection, now, EventType.TOKEN_REVOKED, data=data)


def mark_used(connection: sqlite3.Connection, used: Mapping[str, float]) -> None:
    """Record when tokens were last used (Unix seconds)."""
    connection.executemany(_USED, [(moment, token_id) for token_id, moment in used.items()])


def log_in(
    connection: sqlite3.Connection, session: Session, user: str, ending: Sequence[Session]
) -> None:
    """Begin a session, with `access.login` in the log; those `ending` and those that have
    expired go."""
    connection.execute(_EXPIRE, (session.created_at,))
    connection.executemany(_LOG_OUT, [(each.secret_sha256,) for each in ending])
    values = (session.secret_sha256, session.token_id, session.created_at, session.expires_at)
    connection.execute(_LOG_IN, values)
    data = {"token": session.token_id, "user": user}
    events.append(connection, session.created_at, EventType.ACCESS_LOGIN, data=data)


def log_out(connection: sqlite3.Connection, session: Session, user: str, now: float) -> None:
    """End a session, with `access.logout` in the log."""
    if connection.execute(_LOG_OUT, (session.secret_sha256,)).rowcount:
        data = {"token": session.token_id, "user": user}
        events.append(connection, now, EventType.ACCESS_LOGOUT, data=data)


def sessions(connection: sqlite3.Connection, now: float) -> list[Session]:
    """The sessions that have not expired."""
    return [_session(row) for row in connection.execute(_SESSIONS, (now,))]


def _token(row: sqlite3.Row) -> Token:
    return Token(
        id=row["id"],
        secret_sha256=bytes(row["secret_sha256"]),
        user=row["user"],
        role=Role(row["role"]),
        label=row["label"],
        made_by=row["made_by"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        last_used_at=row["last_used_at"],
        revoked_at=row["revoked_at"],
    )


def _session(row: sqlite3.Row) -> Session:
    return Session(
        secret_sha256=bytes(row["secret_sha256"]),
        token_id=row["token_id"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
    )
