"""The shapes of what the native API answers, as OpenAPI shows them; `render.py` fills them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from training_cluster.api.shape import Shape
from training_cluster.domain.device import QuarantineCause, Standing
from training_cluster.domain.job import JobState
from training_cluster.store.tracker_runs import RunState


class WaitReasonView(Shape):
    """Why a job waits: a code for programs, a sentence for people."""

    code: str
    message: str


class SubmittedView(Shape):
    """The answer to a submission. Times are Unix seconds."""

    job_id: str
    number: int
    status: Literal["started", "queued"]
    message: str
    queue_position: int | None = None
    wait_reason: WaitReasonView | None = None
    estimated_start: float | None = None
    warnings: list[str] = Field([])
    links: dict[str, str] = Field({})


class ProgressView(Shape):
    """How far the job is. Steps are optimizer steps."""

    step: int
    total_steps: int
    percent: float
    epoch: float | None
    elapsed_seconds: float | None
    remaining_seconds: float | None


class ErrorView(Shape):
    """Why a job failed and what to do about it."""

    code: str
    message: str
    hint: str


class AttemptView(Shape):
    """One execution of a job. Times are Unix seconds. It went on from the checkpoint at
    `resumed_from_step`; the last complete one it left is at `checkpoint_step`."""

    attempt: int
    devices: list[str]
    start_time: float | None
    end_time: float | None
    outcome: str | None
    exit_code: int | None
    stop_reason: str | None
    resumed_from_step: int | None
    checkpoint_step: int | None


class JobSummary(Shape):
    """A job as lists show it. Times are Unix seconds; `disk_bytes` is what an attempt is likely to
    write, `pruned` what of it was removed since, each with time and bytes."""

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
    disk_bytes: int
    pruned: dict[str, Any] | None
    links: dict[str, str]


class RunView(Shape):
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


class JobPage(Shape):
    """Jobs, newest first; `next_cursor` is null on the last page."""

    jobs: list[JobSummary]
    next_cursor: str | None


class CancelledView(Shape):
    """The answer to a cancellation."""

    job_id: str
    status: Literal["cancelled", "stopping"]
    message: str


class QuarantineView(Shape):
    """Why a device is kept out of the queue since when (Unix seconds); `by` is the person who said
    so, null for the daemon; `ends_by_itself` after enough healthy readings."""

    device: str
    cause: QuarantineCause
    reason: str
    since: float
    by: str | None
    ends_by_itself: bool


class ToleranceView(Shape):
    """Foreign memory in bytes that was waved through; `until` is Unix seconds, null for no end."""

    device: str
    memory_bytes: int
    reason: str
    by: str
    until: float | None


class PausedView(Shape):
    """The answer to a pause. `resumed_from_step` is where the job will go on, 0 for its start;
    null while it is still saving."""

    job_id: str
    status: Literal["paused", "stopping"]
    message: str
    resumed_from_step: int | None


class ResumedView(Shape):
    """The answer to a resume or a retry. `resumed_from_step` is where the job goes on, 0 for its
    start."""

    job_id: str
    status: Literal["queued"]
    message: str
    resumed_from_step: int


class DeviceView(Shape):
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
    quarantine: QuarantineView | None
    tolerance: ToleranceView | None


class QueuedView(Shape):
    """A waiting job in queue order."""

    job_id: str
    number: int
    priority: int
    gpus: int
    disk_bytes: int
    queue_position: int
    wait_reason: WaitReasonView
    estimated_start: float | None


class RunningView(Shape):
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


class DiskView(Shape):
    """The disk of the state directory, in bytes: what is free, what running jobs will still write,
    and what is left for new ones without the reserve."""

    path: str
    free_bytes: int
    promised_bytes: int
    available_bytes: int
    is_full: bool


class QueueStateView(Shape):
    """The queue: what runs, what waits and why, and the devices."""

    running: list[RunningView]
    queued: list[QueuedView]
    queue_length: int
    devices: list[DeviceView]
    disk: DiskView | None


class DevicesView(Shape):
    """All devices; `source` is nvml or cpu, `fault` is set when they cannot be read at all."""

    devices: list[DeviceView]
    source: str
    note: str | None
    fault: str | None


class HoldView(Shape):
    """A hold; `until` is Unix seconds, null for no end."""

    device: str
    user: str
    reason: str
    until: float | None


class ReleasedView(Shape):
    """Whether there was a hold to release."""

    device: str
    released: bool


class AboutView(Shape):
    """The daemon in a few words."""

    name: str
    version: str
    queue_length: int
    running: int
    devices: list[DeviceView]
    device_note: str | None
    links: dict[str, str]


class AliveView(Shape):
    """The process answers."""

    status: Literal["ok"]


class CheckView(Shape):
    """One part of the daemon; the work goes on without one that is not `required`."""

    name: str
    ok: bool
    detail: str
    required: bool


class ReadyView(Shape):
    """Every part on which scheduling depends."""

    status: Literal["ready", "not ready"]
    checks: list[CheckView]
