"""What executes attempts: datasets, the trainer that knows one program, the engine that runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from training_cluster.domain.device import Device
from training_cluster.domain.job import (
    AttemptRef,
    Progress,
    StopReason,
    TrainingPoint,
    Verdict,
)
from training_cluster.domain.spec import JobSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """One registered dataset version.

    `format` is one of alpaca, sharegpt, openai, preference, text. `files` are absolute;
    `columns` maps LLaMA-Factory's column roles to column names in the files: every role the rows
    have, and no other. `sha256` identifies the content.
    """

    version: str
    format: str
    train_file: Path
    validation_file: Path | None
    columns: Mapping[str, str]
    rows: int
    sha256: str
    description: str = ""


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
    None the stop came before the program was executed.
    Times are Unix seconds, the duration was taken on a monotonic clock.
    """

    code: int | None
    started_at: float | None = None
    ended_at: float | None = None
    duration_seconds: float | None = None
    stop_reason: StopReason | None = None
    exec_error: str | None = None

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

    async def stop(self, directory: Path, reason: StopReason) -> None:
        """Tell an attempt to stop: TERM, grace, KILL over its whole tree. Returns at once; `wait`
        tells when it is over. May be called twice, and before the runner is up."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What an attempt was given: a fresh directory, its devices, a port for torchrun."""

    ref: AttemptRef
    directory: Path
    devices: tuple[Device, ...]
    master_port: int | None = None


class Trainer(Protocol):
    """Knows one training program: how to ask it for a job and how to read what it says."""

    def check(self, spec: JobSpec, dataset: Dataset) -> tuple[str, ...]:
        """Hold a spec against what the trainer can do; returns warnings, raises InvalidRequest."""
        ...

    def prepare(self, spec: JobSpec, dataset: Dataset, assignment: Assignment) -> Launch:
        """Write the trainer's files into the assignment's directory, tell how to launch it."""
        ...

    def progress_log(self, directory: Path) -> Path:
        """Where the trainer of an attempt appends one line per logged step."""
        ...

    def parse(self, line: bytes) -> TrainingPoint | None:
        """Read one complete line of the progress log; None if it says nothing."""
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
