"""The shapes of what the native API answers, as OpenAPI shows them; `render.py` fills them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from training_cluster.domain.device import Standing
from training_cluster.domain.job import JobState
from training_cluster.store.tracker_runs import RunState


class WaitReasonView(BaseModel):
    """Why a job waits: a code for programs, a sentence for people."""

    code: str
    message: str


class SubmittedView(BaseModel):
    """The answer to a submission. Times are Unix seconds."""

    job_id: str
    number: int
    status: Literal["started", "queued"]
    message: str
    queue_position: int | None = None
    wait_reason: WaitReasonView | None = None
    estimated_start: float | None = None
    warnings: list[str] = []
    links: dict[str, str] = {}


class ProgressView(BaseModel):
    """How far the job is. Steps are optimizer steps."""

    step: int
    total_steps: int
    percent: float
    epoch: float | None
    elapsed_seconds: float | None
    remaining_seconds: float | None


class ErrorView(BaseModel):
    """Why a job failed and what to do about it."""

    code: str
    message: str
    hint: str


class AttemptView(BaseModel):
    """One execution of a job. Times are Unix seconds."""

    attempt: int
    devices: list[str]
    start_time: float | None
    end_time: float | None
    outcome: str | None
    exit_code: int | None
    stop_reason: str | None


class JobSummary(BaseModel):
    """A job as lists show it. Times are Unix seconds."""

    job_id: str
    number: int
    status: JobState
    user: str
    config: dict[str, Any]
    created_at: float
    start_time: float | None
    end_time: float | None
    progress: ProgressView | None
    metrics: dict[str, float] | None
    error: ErrorView | None
    result: dict[str, Any] | None
    warnings: list[str]
    links: dict[str, str]


class RunView(BaseModel):
    """The job's record at a tracker. `lines` is how many metric lines it has been given."""

    tracker: str
    number: int
    attempt: int
    state: RunState
    run_id: str | None
    url: str | None
    lines: int
    message: str | None


class JobView(JobSummary):
    """A job with everything known about it."""

    queue_position: int | None
    wait_reason: WaitReasonView | None
    estimated_start: float | None
    estimated_finish: float | None
    devices: list[str]
    attempts: list[AttemptView]
    webhook_id: str | None
    runs: list[RunView]


class JobPage(BaseModel):
    """Jobs, newest first; `next_cursor` is null on the last page."""

    jobs: list[JobSummary]
    next_cursor: str | None


class CancelledView(BaseModel):
    """The answer to a cancellation."""

    job_id: str
    status: Literal["cancelled", "stopping"]
    message: str


class DeviceView(BaseModel):
    """A device: memory in bytes, temperature in °C, power in W, utilisation in %."""

    uuid: str
    kind: str
    index: int
    name: str
    standing: Standing
    reason: str
    job: int | None
    total_memory_bytes: int
    used_memory_bytes: int | None
    utilization_percent: float | None
    temperature_celsius: float | None
    power_watts: float | None
    parent_uuid: str | None
    processes: list[dict[str, Any]]


class QueuedView(BaseModel):
    """A waiting job in queue order."""

    job_id: str
    number: int
    priority: int
    gpus: int
    queue_position: int
    wait_reason: WaitReasonView
    estimated_start: float | None


class RunningView(BaseModel):
    """A job that holds devices."""

    job_id: str
    number: int
    status: JobState
    user: str
    model_name: str
    attempt: int
    devices: list[str]
    start_time: float | None
    progress: ProgressView | None


class QueueStateView(BaseModel):
    """The queue: what runs, what waits and why, and the devices."""

    running: list[RunningView]
    queued: list[QueuedView]
    queue_length: int
    devices: list[DeviceView]


class DevicesView(BaseModel):
    """All devices; `source` is nvml or cpu, `fault` is set when they cannot be read at all."""

    devices: list[DeviceView]
    source: str
    note: str | None
    fault: str | None


class HoldView(BaseModel):
    """A hold; `until` is Unix seconds, null for no end."""

    device: str
    user: str
    reason: str
    until: float | None


class ReleasedView(BaseModel):
    """Whether there was a hold to release."""

    device: str
    released: bool


class AboutView(BaseModel):
    """The daemon in a few words."""

    name: str
    version: str
    queue_length: int
    running: int
    devices: list[DeviceView]
    device_note: str | None
    links: dict[str, str]


class AliveView(BaseModel):
    """The process answers."""

    status: Literal["ok"]


class CheckView(BaseModel):
    """One part of the daemon; the work goes on without one that is not `required`."""

    name: str
    ok: bool
    detail: str
    required: bool


class ReadyView(BaseModel):
    """Every part on which scheduling depends."""

    status: Literal["ready", "not ready"]
    checks: list[CheckView]
