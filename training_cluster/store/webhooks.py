"""Webhooks in SQLite: standing subscriptions and the receivers of single jobs."""

from __future__ import annotations

import json
import sqlite3

from training_cluster.domain.errors import WebhookNotFound
from training_cluster.domain.event import EventType
from training_cluster.domain.webhook import Webhook
from training_cluster.store import events

_INSERT = """
INSERT INTO webhooks (id, format, url, user, events, only_user, job_number, description,
                      created_at, sees_all)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_SELECT = """
SELECT w.*, j.id AS job_id FROM webhooks w LEFT JOIN jobs j ON j.number = w.job_number"""
_ONE = _SELECT + " WHERE w.id = ? AND w.deleted_at IS NULL"
_STANDING = _SELECT + " WHERE w.job_number IS NULL AND w.deleted_at IS NULL ORDER BY w.created_at"
_OF_JOB = "SELECT id FROM webhooks WHERE job_number = ? AND deleted_at IS NULL"
_KNOWN = "SELECT id FROM webhooks WHERE deleted_at IS NULL"
_DISABLE = """
UPDATE webhooks SET disabled_at = ?, disabled_reason = ?
WHERE id = ? AND disabled_at IS NULL AND deleted_at IS NULL"""
_ENABLE = """
UPDATE webhooks SET disabled_at = NULL, disabled_reason = NULL
WHERE id = ? AND deleted_at IS NULL"""
_DELETE = "UPDATE webhooks SET deleted_at = ? WHERE id = ? AND deleted_at IS NULL"
_OWNER = "SELECT user FROM webhooks WHERE id = ?"
_SEES = """
SELECT w.sees_all OR w.job_number IS NOT NULL OR w.user = ? AS sees
FROM webhooks w WHERE w.id = ?"""
_DROP = """
UPDATE deliveries SET state = 'dropped', next_at = NULL, last_error = ?
WHERE webhook_id = ? AND state = 'pending'"""


def insert(connection: sqlite3.Connection, hook: Webhook, job_number: int | None = None) -> None:
    """Add a webhook; with `job_number` it is that job's own."""
    values = (
        hook.id,
        hook.format,
        hook.url,
        hook.user,
        json.dumps(hook.events),
        hook.only_user,
        job_number,
        hook.description,
        hook.created_at,
        int(hook.sees_all),
    )
    connection.execute(_INSERT, values)


def find(connection: sqlite3.Connection, webhook_id: str) -> Webhook:
    """A webhook by id. Raises WebhookNotFound, also for a deleted one."""
    row = connection.execute(_ONE, (webhook_id,)).fetchone()
    if row is None:
        raise unknown(webhook_id)
    return _webhook(row)


def unknown(webhook_id: str) -> WebhookNotFound:
    """The error for an id that names no webhook."""
    hint = "GET /webhooks lists the webhooks"
    return WebhookNotFound(f"there is no webhook {webhook_id!r}", hint=hint)


def standing(connection: sqlite3.Connection) -> list[Webhook]:
    """All standing subscriptions, disabled ones too, oldest first."""
    return [_webhook(row) for row in connection.execute(_STANDING)]


def sees_all_of(connection: sqlite3.Connection, webhook_id: str, owner: str) -> bool:
    """Whether a webhook may be told what only the owner of a job, and admins, can see of it."""
    return bool(connection.execute(_SEES, (owner, webhook_id)).fetchone()["sees"])


def of_job(connection: sqlite3.Connection, job_number: int) -> str | None:
    """The id of a job's own webhook; None when it has none."""
    row = connection.execute(_OF_JOB, (job_number,)).fetchone()
    return None if row is None else str(row["id"])


def ids(connection: sqlite3.Connection) -> set[str]:
    """The ids of all webhooks that were not deleted, those of jobs too."""
    return {row["id"] for row in connection.execute(_KNOWN)}


def disable(connection: sqlite3.Connection, webhook_id: str, reason: str, now: float) -> bool:
    """Tell a webhook nothing more and drop what waits for it; False when it was disabled."""
    changed = connection.execute(_DISABLE, (now, reason, webhook_id)).rowcount == 1
    if changed:
        connection.execute(_DROP, (reason, webhook_id))
        _record(connection, now, EventType.WEBHOOK_DISABLED, webhook_id, reason)
    return changed


def enable(connection: sqlite3.Connection, webhook_id: str) -> None:
    """Tell a disabled webhook of events again, from now on."""
    connection.execute(_ENABLE, (webhook_id,))


def delete(connection: sqlite3.Connection, webhook_id: str, user: str, now: float) -> bool:
    """Forget a webhook and drop what waits for it; its deliveries stay as history."""
    if connection.execute(_DELETE, (now, webhook_id)).rowcount != 1:
        return False
    connection.execute(_DROP, ("the webhook was deleted", webhook_id))
    _record(connection, now, EventType.WEBHOOK_DELETED, webhook_id, f"by {user}")
    return True


def _record(
    connection: sqlite3.Connection, now: float, kind: EventType, webhook_id: str, reason: str
) -> None:
    owner = connection.execute(_OWNER, (webhook_id,)).fetchone()["user"]
    data = {"webhook_id": webhook_id, "user": owner, "reason": reason}
    events.append(connection, now, kind, data=data)


def _webhook(row: sqlite3.Row) -> Webhook:
    return Webhook(
        id=row["id"],
        format=row["format"],
        url=row["url"],
        user=row["user"],
        created_at=row["created_at"],
        events=tuple(json.loads(row["events"])),
        only_user=row["only_user"],
        job_id=row["job_id"],
        description=row["description"],
        disabled_at=row["disabled_at"],
        disabled_reason=row["disabled_reason"],
        sees_all=bool(row["sees_all"]),
    )
