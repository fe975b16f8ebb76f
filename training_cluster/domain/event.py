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
    JOB_RETRYING = "job.retrying"
    JOB_PREEMPTED = "job.preempted"
    JOB_WARNING = "job.warning"
    ATTEMPT_ADOPTED = "attempt.adopted"
    DEVICE_HELD = "device.held"
    DEVICE_RELEASED = "device.released"
    DEVICE_QUARANTINED = "device.quarantined"
    DEVICE_RECOVERED = "device.recovered"
    WEBHOOK_CREATED = "webhook.created"
    WEBHOOK_DISABLED = "webhook.disabled"
    WEBHOOK_DELETED = "webhook.deleted"
    WEBHOOK_TEST = "webhook.test"


@dataclass(frozen=True, slots=True)
class Event:
    """One fact. `sequence` grows without gaps being promised; `time` is Unix seconds."""

    sequence: int
    time: float
    type: EventType
    job_id: str | None = None
    job_number: int | None = None
    attempt_number: int | None = None
    data: dict[str, Any] = field(default_factory=dict)


NOTIFIED = frozenset(
    {
        EventType.JOB_QUEUED,
        EventType.JOB_STARTED,
        EventType.JOB_PROGRESS,
        EventType.JOB_COMPLETED,
        EventType.JOB_FAILED,
        EventType.JOB_CANCELLED,
        EventType.JOB_PREEMPTED,
        EventType.JOB_RETRYING,
        EventType.DEVICE_QUARANTINED,
    }
)
"""What webhooks are told of."""

ENDINGS = frozenset({EventType.JOB_COMPLETED, EventType.JOB_FAILED, EventType.JOB_CANCELLED})
"""The last event of a job."""
