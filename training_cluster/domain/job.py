"""Jobs and attempts: their states, the legal moves between them, and how attempts end."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from training_cluster.domain.dialect import DialectRequest
from training_cluster.domain.errors import StaleTransition
from training_cluster.domain.spec import JobSpec


class JobState(StrEnum):
    """Where a job is in its life; the words are those of the API."""

    QUEUED = "queued"  # acknowledged, waits for devices; -> preparing by a claim
    PREPARING = "preparing"  # devices leased, trainer not running yet; -> running by the runner
    RUNNING = "running"  # the trainer runs; -> stopping by a request, or to an end
    STOPPING = "stopping"  # told to stop, grace period; -> where the reason leads, once it is gone
    PAUSED = "paused"  # waits for somebody, holds no device; -> queued by a resume
    COMPLETED = "completed"
    FAILED = "failed"  # -> queued by a retry
    CANCELLED = "cancelled"  # -> queued by a retry


TRANSITIONS: MappingProxyType[JobState, frozenset[JobState]] = MappingProxyType(
    {
        JobState.QUEUED: frozenset(
            {JobState.PREPARING, JobState.PAUSED, JobState.CANCELLED, JobState.FAILED}
        ),
        JobState.PREPARING: frozenset(
            {
                JobState.RUNNING,
                JobState.STOPPING,
                JobState.QUEUED,
                JobState.COMPLETED,
                JobState.FAILED,
                JobState.CANCELLED,
            }
        ),
        JobState.RUNNING: frozenset(
            {
                JobState.STOPPING,
                JobState.QUEUED,
                JobState.COMPLETED,
                JobState.FAILED,
                JobState.CANCELLED,
            }
        ),
        JobState.STOPPING: frozenset(
            {
                JobState.PAUSED,
                JobState.QUEUED,
                JobState.COMPLETED,
                JobState.FAILED,
                JobState.CANCELLED,
            }
        ),
        JobState.PAUSED: frozenset({JobState.QUEUED, JobState.CANCELLED}),
        JobState.COMPLETED: frozenset(),
        JobState.FAILED: frozenset({JobState.QUEUED}),
        JobState.CANCELLED: frozenset({JobState.QUEUED}),
    }
)

FINISHED = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED})
"""Over, with an end time: nothing more happens unless somebody asks for a retry."""
ACTIVE = frozenset({JobState.PREPARING, JobState.RUNNING, JobState.STOPPING})


def check_transition(job_id: str, before: JobState, after: JobState) -> None:
    """Raise StaleTransition unless the table lets a job go from `before` to `after`."""
    if after not in TRANSITIONS[before]:
        raise StaleTransition(f"job {job_id} cannot go from {before} to {after}")


class Outcome(StrEnum):
    """How an attempt ended; every one but completed, cancelled and paused is a failure code."""

    COMPLETED = "completed"
    CANCELLED = "cancelled"
    OUT_OF_MEMORY = "out_of_memory"
    MODEL_UNAVAILABLE = "model_unavailable"
    DATASET_INVALID = "dataset_invalid"
    DISK_FULL = "disk_full"
    TRAINER_ERROR = "trainer_error"
    LAUNCH_FAILED = "launch_failed"  # the trainer could not be executed at all
    KILLED = "killed"  # ended by a signal nobody here sent
    LOST = "lost"  # the runner vanished without leaving an exit file
    TIMED_OUT = "timed_out"  # ran longer than max_seconds
    HUNG = "hung"  # did nothing any more for longer than the settings allow
    INTERRUPTED = "interrupted"  # stopped early with a checkpoint, nobody here asked for it
    PREEMPTED = "preempted"  # gave way to another job
    PAUSED = "paused"  # stopped on request, to go on later
    DEPENDENCY_FAILED = "dependency_failed"  # never ran: a job it depends on did not complete


@dataclass(frozen=True, slots=True)
class EndedAttempt:
    """What counts of an ended attempt when it is decided whether its job is tried again.
    `advanced` tells that it left a checkpoint further on than any before it."""

    outcome: Outcome
    advanced: bool = False


class StopReason(StrEnum):
    """Why an attempt was told to stop; decides what its end means."""

    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    PREEMPTED = "preempted"
    PAUSED = "paused"
    HUNG = "hung"


@dataclass(frozen=True, slots=True)
class AttemptRef:
    """Names one execution of a job: the first attempt of a job is number 1."""

    job_id: str
    number: int

    def __str__(self) -> str:
        return f"{self.job_id}/{self.number}"


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job failed: a typed code, what happened, and what to do about it."""

    code: str
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a training after `step` optimizer steps, complete on the disk, from which
    another attempt can go on. `tokens` is how many the model had seen, 0 if nobody counted."""

    path: Path
    step: int
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an ended attempt amounts to. `message` says why, and of a completed one what there is
    to remark; `result` describes the model it left, if any, and `checkpoint` is the last complete
    one it left for another attempt to go on from."""

    outcome: Outcome
    message: str = ""
    hint: str = ""
    result: dict[str, Any] | None = None
    checkpoint: Checkpoint | None = None

    @property
    def error(self) -> JobError | None:
        """The error this verdict puts on the job; None for completed, cancelled and paused."""
        if self.outcome in (Outcome.COMPLETED, Outcome.CANCELLED, Outcome.PAUSED):
            return None
        return JobError(self.outcome.value, self.message, self.hint)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is; steps are optimizer steps, times are seconds of training, those of its
    earlier attempts included."""

    step: int
    total_steps: int
    epoch: float | None = None
    elapsed_seconds: float | None = None
    remaining_seconds: float | None = None

    @property
    def fraction(self) -> float:
        """Done share of the work, 0 to 1."""
        return self.step / self.total_steps if self.total_steps else 0.0


@dataclass(frozen=True, slots=True)
class TrainingPoint:
    """One line of the trainer's log: progress and the values measured at that step.

    Value names follow Hugging Face: `train/loss`, `train/learning_rate`, `eval/loss`, ...
    """

    progress: Progress
    values: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One execution of a job. Times are Unix seconds; `outcome` is None while it is active.

    `resumed_from` is the earlier attempt's checkpoint it goes on from, after `elapsed_before`
    seconds of training; `checkpoint_step` the step of the last complete one it left itself."""

    ref: AttemptRef
    directory: str
    device_uuids: tuple[str, ...]
    created_at: float
    started_at: float | None = None
    ended_at: float | None = None
    outcome: Outcome | None = None
    exit_code: int | None = None
    stop_reason: StopReason | None = None
    master_port: int | None = None
    log_offset: int = 0
    resumed_from: Checkpoint | None = None
    elapsed_before: float = 0.0
    checkpoint_step: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as the store knows it. Times are Unix seconds.

    Attempts up to `begins_after` are none it goes on from, those up to `counts_after` do not
    count against its retries: somebody asked for a retry then. `request` is what the dialect that
    made it remembers, None for the native API. `dataset_id` names a dataset that was handed in;
    None for a registered folder."""

    id: str
    number: int
    state: JobState
    user: str
    spec: JobSpec
    priority: int
    attempt_number: int
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None
    not_before: float | None = None
    progress: Progress | None = None
    metrics: dict[str, float] | None = None
    error: JobError | None = None
    result: dict[str, Any] | None = None
    warnings: tuple[str, ...] = ()
    disk_bytes: int = 0
    begins_after: int = 0
    counts_after: int = 0
    pruned: dict[str, Any] | None = None
    request: DialectRequest | None = None
    dataset_id: str | None = None


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """What the planner needs to know of a waiting job; numbers name jobs to people. One with no
    `gpus` takes no device. `awaits_dataset` names a dataset that is still being checked."""

    id: str
    number: int
    priority: int = 0
    gpus: int = 1
    min_memory_bytes: int = 0
    not_before: float | None = None
    waits_for: tuple[int, ...] = ()
    broken_by: int | None = None
    disk_bytes: int = 0
    awaits_dataset: str | None = None
