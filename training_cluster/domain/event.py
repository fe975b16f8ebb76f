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
    JOB_COMPLETED = "job.completed"
    JOB_FAILED = "job.failed"
    JOB_CANCELLED = "job.cancelled"
    JOB_RETRYING = "job.retrying"
    ATTEMPT_ADOPTED = "attempt.adopted"
    DEVICE_HELD = "device.held"
    DEVICE_RELEASED = "device.released"


@dataclass(frozen=True, slots=True)
class Event:
    """One fact. `sequence` grows without gaps being promised; `time` is Unix seconds."""

    sequence: int
    time: float
    type: EventType
    job_id: str | None = None
    attempt_number: int | None = None
    data: dict[str, Any] = field(default_factory=dict)
