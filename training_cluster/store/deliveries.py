"""Deliveries in SQLite: the outbox that is filled in the transaction of each event."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from training_cluster.domain.errors import DeliveryNotFound
from training_cluster.domain.event import Event
from training_cluster.domain.webhook import Delivery, DeliveryState

_ENQUEUE = """
INSERT INTO deliveries (webhook_id, event_sequence, job_number, job_sequence, message_id, state,
                        created_at, next_at)
SELECT w.id, :sequence, :job,
       CASE WHEN :job IS NULL THEN NULL ELSE
         1 + (SELECT count(*) FROM deliveries d WHERE d.job_number = :job AND d.webhook_id = w.id)
       END,
       'msg_' || :sequence || '_' || w.id, 'pending', :now, :now
FROM webhooks w
WHERE {whose} AND w.disabled_at IS NULL AND w.deleted_at IS NULL
  AND (w.only_user IS NULL OR w.only_user = :user)
  AND (w.events = '[]' OR EXISTS (SELECT 1 FROM json_each(w.events) t WHERE t.value = :type))"""
_ENQUEUE_STANDING = _ENQUEUE.format(whose="w.job_number IS NULL")
_ENQUEUE_OF_JOB = _ENQUEUE.format(whose="w.job_number = :job")
_ADD = """
INSERT INTO deliveries (webhook_id, event_sequence, message_id, state, created_at, next_at)
VALUES (:webhook, :sequence, 'msg_' || :sequence || '_' || :webhook, 'pending', :now, :now)"""
_SELECT = """
SELECT d.*, e.type AS event_type, j.id AS job_id
FROM deliveries d JOIN events e ON e.sequence = d.event_sequence
LEFT JOIN jobs j ON j.number = d.job_number"""
_DUE = """
WITH waiting AS (
  SELECT id, webhook_id, next_at, row_number() OVER (
    PARTITION BY webhook_id, coalesce(job_number, -id) ORDER BY next_at, id) AS turn
  FROM deliveries WHERE state = 'pending' AND next_at <= :now),
fair AS (
  SELECT id, row_number() OVER (PARTITION BY webhook_id ORDER BY next_at, id) AS place
  FROM waiting WHERE turn = 1)
SELECT d.*, e.type AS event_type, j.id AS job_id
FROM fair f JOIN deliveries d ON d.id = f.id JOIN events e ON e.sequence = d.event_sequence
LEFT JOIN jobs j ON j.number = d.job_number
WHERE f.place <= :per_webhook ORDER BY f.place, d.next_at, d.id LIMIT :limit"""
_NEXT = "SELECT min(next_at) FROM deliveries WHERE state = 'pending' AND next_at > ?"
_ONE = _SELECT + " WHERE d.id = ? AND d.webhook_id = ?"
_PAGE = _SELECT + " WHERE d.webhook_id = ? AND d.id < ? {filters} ORDER BY d.id DESC LIMIT ?"
_BODY = "SELECT body FROM deliveries WHERE id = ?"
_KEEP_BODY = "UPDATE deliveries SET body = coalesce(body, ?) WHERE id = ? RETURNING body"
_SETTLE = """
UPDATE deliveries SET state = ?, tries = tries + 1, next_at = ?, last_status = ?, last_error = ?,
                      delivered_at = ?
WHERE id = ? AND state = 'pending' AND tries = ?"""
_REPLAY = """
UPDATE deliveries SET state = 'pending', tries = 0, next_at = ?, delivered_at = NULL
WHERE id = ? AND webhook_id = ? AND state <> 'pending'"""
_REPLAY_UNDELIVERED = """
UPDATE deliveries SET state = 'pending', tries = 0, next_at = ?
WHERE webhook_id = ? AND state IN ('failed', 'dropped') AND created_at >= ?"""

NEWEST = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What one try came to. `next_at` is set exactly while the delivery stays pending."""

    state: DeliveryState
    next_at: float | None
    status: int | None
    error: str | None


def enqueue(connection: sqlite3.Connection, event: Event, user: str | None) -> int:
    """Add a delivery of the event for every webhook that wants it; returns how many do."""
    values = {
        "sequence": event.sequence,
        "job": event.job_number,
        "now": event.time,
        "type": event.type.value,
        "user": user,
    }
    added = connection.execute(_ENQUEUE_STANDING, values).rowcount
    if event.job_number is not None:
        added += connection.execute(_ENQUEUE_OF_JOB, values).rowcount
    return added


def add(connection: sqlite3.Connection, webhook_id: str, event: Event) -> int:
    """Add a delivery for one webhook, whatever it subscribes to; returns the delivery's id."""
    values = {"webhook": webhook_id, "sequence": event.sequence, "now": event.time}
    number = connection.execute(_ADD, values).lastrowid
    assert number is not None
    return number


def due(
    connection: sqlite3.Connection, now: float, *, per_webhook: int, limit: int
) -> list[Delivery]:
    """Pending deliveries whose time has come: at most one of each job and so many in all for a
    webhook. Every webhook's longest due comes first, then every webhook's second, and so on."""
    values = {"now": now, "per_webhook": per_webhook, "limit": limit}
    return [_delivery(row) for row in connection.execute(_DUE, values)]


def next_at(connection: sqlite3.Connection, after: float) -> float | None:
    """When the first pending delivery falls due behind `after` (Unix seconds); None for never."""
    moment: float | None = connection.execute(_NEXT, (after,)).fetchone()[0]
    return moment


def find(connection: sqlite3.Connection, webhook_id: str, delivery_id: int) -> Delivery:
    """One delivery of a webhook. Raises DeliveryNotFound."""
    row = connection.execute(_ONE, (delivery_id, webhook_id)).fetchone()
    if row is None:
        raise DeliveryNotFound(f"webhook {webhook_id} has no delivery {delivery_id}")
    return _delivery(row)


def page(
    connection: sqlite3.Connection,
    webhook_id: str,
    *,
    before: int = NEWEST,
    limit: int,
    state: DeliveryState | None = None,
) -> list[Delivery]:
    """Deliveries of a webhook with an id below `before`, newest first."""
    filters, values = "", []
    if state is not None:
        filters, values = " AND d.state = ?", [state.value]
    rows = connection.execute(_PAGE.format(filters=filters), (webhook_id, before, *values, limit))
    return [_delivery(row) for row in rows]


def body(connection: sqlite3.Connection, delivery_id: int) -> bytes | None:
    """What is or was sent; None before the first try."""
    row = connection.execute(_BODY, (delivery_id,)).fetchone()
    return None if row is None else row["body"]


def keep_body(connection: sqlite3.Connection, delivery_id: int, content: bytes) -> bytes:
    """Fix what is sent, so that every try says the same; returns what was fixed first."""
    kept: bytes = connection.execute(_KEEP_BODY, (content, delivery_id)).fetchone()["body"]
    return kept


def settle(
    connection: sqlite3.Connection, delivery: Delivery, settled: Settled, now: float
) -> bool:
    """Record one try; False when the delivery was dropped or tried by somebody else meanwhile."""
    delivered_at = now if settled.state is DeliveryState.DELIVERED else None
    values = (
        settled.state.value,
        settled.next_at,
        settled.status,
        settled.error,
        delivered_at,
        delivery.id,
        delivery.tries,
    )
    return connection.execute(_SETTLE, values).rowcount == 1


def replay(
    connection: sqlite3.Connection, webhook_id: str, delivery_id: int, now: float
) -> Delivery:
    """Send a delivery again, from the start of its schedule and with the same message id; one
    that is pending anyway is left as it is. Raises DeliveryNotFound."""
    find(connection, webhook_id, delivery_id)
    connection.execute(_REPLAY, (now, delivery_id, webhook_id))
    return find(connection, webhook_id, delivery_id)


def replay_undelivered(
    connection: sqlite3.Connection, webhook_id: str, since: float, now: float
) -> int:
    """Send again what was created since then (Unix seconds) and given up; returns how many."""
    return connection.execute(_REPLAY_UNDELIVERED, (now, webhook_id, since)).rowcount


def _delivery(row: sqlite3.Row) -> Delivery:
    return Delivery(
        id=row["id"],
        webhook_id=row["webhook_id"],
        message_id=row["message_id"],
        event_sequence=row["event_sequence"],
        event_type=row["event_type"],
        state=DeliveryState(row["state"]),
        created_at=row["created_at"],
        tries=row["tries"],
        next_at=row["next_at"],
        job_id=row["job_id"],
        job_sequence=row["job_sequence"],
        last_status=row["last_status"],
        last_error=row["last_error"],
        delivered_at=row["delivered_at"],
    )
