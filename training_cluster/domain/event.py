"""Events: immutable facts, numbered in the order in which they were committed."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class EventType(StrEnum):
    """What can happen. Job events carry the job, attempt events the attempt as well."""

    JOB_QUEUED = "job.queued"
    JOB_STARTING = "job.starting"
    JOB_STARTED = "job.started"
    JOB_STOPPING = "job.stopping"
    JOB_PROGRESS = "job.progress"
    JOB_COMPLETED = "job.completed"
    JOB_FAILED = "job.failed"
    JOB_CANCELLED = "job.cancelled"
    JOB_PAUSED = "job.paused"
    JOB_RESUMED = "job.resumed"
    JOB_RETRIED = "job.retried"
    JOB_RETRYING = "job.retrying"
    JOB_PREEMPTED = "job.preempted"
    JOB_WARNING = "job.warning"
    JOB_STALLED = "job.stalled"
    ATTEMPT_ADOPTED = "attempt.adopted"
    DEVICE_HELD = "device.held"
    DEVICE_RELEASED = "device.released"
    DEVICE_QUARANTINED = "device.quarantined"
    DEVICE_RECOVERED = "device.recovered"
    STORE_REBUILT = "store.rebuilt"
    STORE_RESTORED = "store.restored"
    DEVICE_TOLERATED = "device.tolerated"
    CLOCK_STEPPED = "clock.stepped"
    JOB_PRUNED = "job.pruned"
    MODEL_REGISTERED = "model.registered"
    MODEL_ALIASED = "model.aliased"
    MODEL_DELETED = "model.deleted"
    DATASET_CREATED = "dataset.created"
    DATASET_READY = "dataset.ready"
    DATASET_INVALID = "dataset.invalid"
    DATASET_DELETED = "dataset.deleted"
    DISK_PRUNED = "disk.pruned"
    DISK_FULL = "disk.full"
    DISK_RECOVERED = "disk.recovered"
    WEBHOOK_CREATED = "webhook.created"
    WEBHOOK_DISABLED = "webhook.disabled"
    WEBHOOK_DELETED = "webhook.deleted"
    WEBHOOK_TEST = "webhook.test"
    TOKEN_CREATED = "token.created"  # noqa: S105
    TOKEN_REVOKED = "token.revoked"  # noqa: S105
    ACCESS_LOGIN = "access.login"
    ACCESS_LOGOUT = "access.logout"
    ACCESS_DENIED = "access.denied"


@dataclass(frozen=True, slots=True)
class Event:
    """One fact. `sequence` grows without gaps being promised; `time` is Unix seconds, `user` the
    owner of the job."""

    sequence: int
    time: float
    type: EventType
    job_id: str | None = None
    job_number: int | None = None
    attempt_number: int | None = None
    data: dict[str, Any] = field(default_factory=dict)
    user: str | None = None


NOTIFIED = frozenset(
    {
        EventType.JOB_QUEUED,
        EventType.JOB_STARTED,
        EventType.JOB_PROGRESS,
        EventType.JOB_COMPLETED,
        EventType.JOB_FAILED,
        EventType.JOB_CANCELLED,
        EventType.JOB_PAUSED,
        EventType.JOB_RESUMED,
        EventType.JOB_RETRIED,
        EventType.JOB_PREEMPTED,
        EventType.JOB_RETRYING,
        EventType.JOB_STALLED,
        EventType.DEVICE_QUARANTINED,
    }
)
"""What webhooks are told of."""

ENDINGS = frozenset({EventType.JOB_COMPLETED, EventType.JOB_FAILED, EventType.JOB_CANCELLED})
"""The last event of a job, unless somebody asks for a retry (JOB_RETRIED)."""

AUDIT = frozenset(
    {
        EventType.TOKEN_CREATED,
        EventType.TOKEN_REVOKED,
        EventType.ACCESS_LOGIN,
        EventType.ACCESS_LOGOUT,
        EventType.ACCESS_DENIED,
    }
)
"""Who got in, or did not: for admins only."""

ATTEMPT_ENDS = ENDINGS | {
    EventType.JOB_PAUSED,
    EventType.JOB_RETRYING,
    EventType.JOB_PREEMPTED,
}
"""What gives devices back; the event names them."""
