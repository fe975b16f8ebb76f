"""Webhooks and deliveries: who is told of events, and how far each telling has come."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class DeliveryState(StrEnum):
    """Where one delivery is in its life."""

    PENDING = "pending"  # waits for its next try; -> any other by that try
    DELIVERED = "delivered"  # the receiver answered 2xx
    FAILED = "failed"  # given up after the last try of the schedule
    DROPPED = "dropped"  # the webhook was disabled or deleted before it got there


@dataclass(frozen=True, slots=True)
class OutboxFilled:
    """Deliveries of an event were added, so many."""

    event_sequence: int
    deliveries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """A standing subscription, or one job's own receiver when `job_id` is set.

    `url` is masked here: address and signing secrets lie in a file of their own, readable by the
    daemon's user alone. `events` empty means all that webhooks are told of; `only_user` keeps to
    that user's jobs. `sees_all`: an admin made it, and it is told all of everybody's jobs. Times
    are Unix seconds."""

    id: str
    format: str
    url: str
    user: str
    created_at: float
    events: tuple[str, ...] = ()
    only_user: str | None = None
    job_id: str | None = None
    description: str = ""
    disabled_at: float | None = None
    disabled_reason: str | None = None
    sees_all: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One event on its way to one webhook. `message_id` stays the same over tries and replays;
    `job_sequence` numbers what a webhook is told of a job: 1, 2, ... Times are Unix seconds."""

    id: int
    webhook_id: str
    message_id: str
    event_sequence: int
    event_type: str
    state: DeliveryState
    created_at: float
    tries: int = 0
    next_at: float | None = None
    job_id: str | None = None
    job_sequence: int | None = None
    last_status: int | None = None
    last_error: str | None = None
    delivered_at: float | None = None
