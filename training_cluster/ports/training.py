"""What executes attempts: datasets, the trainer that knows one program, the engine that runs it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from training_cluster.domain.device import Device
from training_cluster.domain.disk import DiskNeed
from training_cluster.domain.job import (
    AttemptRef,
    Checkpoint,
    Progress,
    StopReason,
    TrainingPoint,
    Verdict,
)
from training_cluster.domain.spec import JobSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """One dataset version to train on, a registered folder's or one that was handed in.

    `format` is one of alpaca, prompt_completion, sharegpt, openai, preference, kto, text. Files
    are absolute;
    `columns` maps LLaMA-Factory's column roles to column names in the files: every role the rows
    have, and no other. `sha256` identifies the content; `remarks` are sentences about rows that
    may not be what somebody means to train on.
    """

    version: str
    format: str
    train_file: Path
    validation_file: Path | None
    columns: Mapping[str, str]
    rows: int
    sha256: str
    description: str = ""
    remarks: tuple[str, ...] = ()


class DatasetRegistry(Protocol):
    """Finds dataset versions by name and vouches for their content."""

    def versions(self) -> tuple[str, ...]:
        """All registered version names, sorted."""
        ...

    def resolve(self, version: str) -> Dataset:
        """The checked dataset. Raises UnknownDataset (naming what exists) or InvalidDataset
        (naming file, row and what would be right). Repeated calls are cheap."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How to execute one attempt. `directory` exists and is this attempt's alone; `argv` runs in
    it with exactly `environment`. Seconds throughout; max_seconds None means no limit."""

    ref: AttemptRef
    directory: Path
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    grace_seconds: float
    max_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Exit:
    """How an attempt's process ended, as its runner recorded it.

    `code` is the exit status, negative for the number of the signal that ended it, None when the
    runner vanished without a record (lost) or the program could not be executed
    (`exec_error` says why). `stop_reason` is set when the runner was told to stop it; with code
    None the stop came before the program was executed. `rebooted` says that the machine was
    started anew since.
    Times are Unix seconds, the duration was taken on a monotonic clock.
    """

    code: int | None
    started_at: float | None = None
    ended_at: float | None = None
    duration_seconds: float | None = None
    stop_reason: StopReason | None = None
    exec_error: str | None = None
    rebooted: bool = False

    @property
    def is_lost(self) -> bool:
        """True when nobody knows how the attempt ended."""
        return self.code is None and self.exec_error is None and self.stop_reason is None


class Sighting(StrEnum):
    """What the engine finds when it looks for an attempt it may have started earlier."""

    NEVER = "never"  # not started: starting it now is safe
    ALIVE = "alive"  # its runner lives: wait for it
    EXITED = "exited"  # it ended and left a record
    LOST = "lost"  # it was started, but its runner is gone without a record


@dataclass(frozen=True, slots=True)
class VitalSigns:
    """What is seen from outside of an attempt: `files` is a number that changes when any of its
    files does, `cpu_seconds` what its processes have used; None when that is not known."""

    files: int
    cpu_seconds: float | None = None


class Engine(Protocol):
    """Executes attempts. The attempt's directory is its identity: `start` on a directory that was
    started before is refused by the engine, however often and by whomever it is called."""

    async def open(self) -> None:
        """Get ready to start attempts. May be called twice."""
        ...

    async def close(self) -> None:
        """Let go of resources; attempts run on. May be called twice."""
        ...

    async def stage(self, launch: Launch) -> None:
        """Get ready to start this attempt very soon; may do nothing. A later `stage` replaces it,
        and an attempt that is only staged has not been started."""
        ...

    async def start(self, launch: Launch) -> None:
        """Start an attempt; returns once its runner has it. Raises EngineUnavailable."""
        ...

    async def look(self, directory: Path) -> Sighting:
        """What is known about an attempt."""
        ...

    async def wait(self, directory: Path) -> Exit:
        """Wait for the end of an attempt, by whomever it was started. When it returns, no process
        of the attempt is left, for a lost attempt too."""
        ...

    async def stop(
        self, directory: Path, reason: StopReason, grace_seconds: float | None = None
    ) -> None:
        """Tell an attempt to stop: TERM, grace, KILL over its whole tree. Returns at once; `wait`
        tells when it is over. May be called twice, and before the runner is up.

        The grace is the one it was launched with unless this stop has its own. A cancellation
        takes the place of an earlier stop for another reason, with the grace it has left at
        most."""
        ...

    async def vital_signs(self, directory: Path) -> VitalSigns:
        """Look whether an attempt still does something. Never raises."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What an attempt was given: a fresh directory, its devices, a port for torchrun, and the
    checkpoint of an earlier attempt of the same job to go on from."""

    ref: AttemptRef
    directory: Path
    devices: tuple[Device, ...]
    master_port: int | None = None
    resume_from: Checkpoint | None = None


class Trainer(Protocol):
    """Knows one training program: how to ask it for a job of each kind and how to read what it
    says. `dataset` is None for jobs that use none."""

    def check(self, spec: JobSpec, dataset: Dataset | None) -> tuple[str, ...]:
        """Hold a spec against what the trainer can do; returns warnings, raises InvalidRequest.
        Without a dataset, while nothing is known of it yet, against all else."""
        ...

    def settings(self, spec: JobSpec) -> Mapping[str, Any]:
        """What a recipe, the job's fields and its overrides decide, by the trainer's own names,
        before anything is known of data and devices. Raises InvalidRequest for an unknown
        recipe."""
        ...

    def disk_need(self, spec: JobSpec, dataset: Dataset | None) -> DiskNeed:
        """What an attempt is likely to write, estimated from above. For a spec that passed
        `check`."""
        ...

    def prepare(self, spec: JobSpec, dataset: Dataset | None, assignment: Assignment) -> Launch:
        """Write the trainer's files into the assignment's directory, tell how to launch it."""
        ...

    def progress_log(self, directory: Path) -> Path:
        """Where the trainer of an attempt appends one line per logged step."""
        ...

    def parse(self, line: bytes, since: Checkpoint | None = None) -> TrainingPoint | None:
        """Read one complete line of the progress log of an attempt that went on from `since`;
        None if it says nothing. Elapsed seconds are those of the attempt."""
        ...

    def checkpoint(
        self, spec: JobSpec, directory: Path, besides: Collection[Path] = ()
    ) -> Checkpoint | None:
        """The furthest complete checkpoint an attempt left, of those not named in `besides`; None
        if there is none, or none to go on from. Reads files: call it on a thread."""
        ...

    def judge(
        self, spec: JobSpec, directory: Path, ending: Exit, progress: Progress | None
    ) -> Verdict:
        """Decide what an ended attempt amounts to, from exit, logs and output."""
        ...


class TrainingRecord(Protocol):
    """What a trainer leaves behind of an attempt, for those who keep records of runs."""

    def parameters(self, directory: Path) -> Mapping[str, bool | int | float | str | None]:
        """The whole configuration the attempt was run with, flat; empty when there is none."""
        ...

    def artifacts(self, directory: Path, *, model: bool) -> Mapping[str, Path]:
        """Files and folders worth keeping, by name; with `model` the trained weights too."""
        ...
