"""What others may see of a job: that it is there and how it does, not what it printed; and of a
dataset: its rows only where it is public.

The message of an error holds the last lines of a traceback, and with them what was in the trainer's
memory; a tracker's page and a receiver's host say where the owner's things are.
"""

from __future__ import annotations

from dataclasses import replace

from training_cluster.domain.dataset import DatasetVersion
from training_cluster.domain.event import AUDIT, Event
from training_cluster.domain.job import JobError
from training_cluster.domain.principal import Principal

_OF_WEBHOOKS = "webhook."


def event_for(event: Event, by: Principal) -> Event | None:
    """An event as `by` may see it; None for one that is none of their business."""
    if event.type in AUDIT:
        return event if by.is_admin else None
    if event.type.startswith(_OF_WEBHOOKS):
        return event if by.owns(str(event.data.get("user"))) else None
    if event.user is None or "message" not in event.data or by.owns(event.user):
        return event
    return replace(event, data={**event.data, "message": veil(event.user)})


def error_for_others(error: JobError, owner: str) -> JobError:
    """A job's error as everybody may see it: code and hint are ours, the message is not."""
    return replace(error, message=veil(owner))


def may_read(dataset: DatasetVersion, by: Principal) -> bool:
    """Whether the rows of a dataset are for `by`."""
    return dataset.is_public or by.owns(dataset.user)


def require_readable(dataset: DatasetVersion, by: Principal, what: str) -> None:
    """Raise Forbidden, of `what`, where the rows of a dataset are not for `by`."""
    if not dataset.is_public:
        by.require_ownership(dataset.user, what)


def veil(owner: str) -> str:
    """What stands in place of a message."""
    return f"only {owner} and admins can read what was said"
