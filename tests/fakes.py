"""One fake for each outside boundary; the store is always the real one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from tests.factories import NOW
from training_cluster.domain.device import Device, Inventory
from training_cluster.domain.job import Outcome, Progress, StopReason, TrainingPoint, Verdict
from training_cluster.domain.spec import JobSpec
from training_cluster.ports import Assignment, Dataset, Exit, Launch, Sighting


class FakeClock:
    """A clock that moves when it is told to."""

    def __init__(self, now: float = NOW) -> None:
        self.time = now

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += seconds


class FakeInventory:
    """Shows whatever devices it is given."""

    def __init__(self, *devices: Device, source: str = "nvml") -> None:
        self.devices = devices
        self.source = source
        self.reads = 0

    def read(self) -> Inventory:
        self.reads += 1
        return Inventory(tuple(self.devices), self.source, NOW)


class FakeEngine:
    """Attempts that end when the test says so. Remembers every start, and outlives a daemon."""

    def __init__(self) -> None:
        self.started: list[Launch] = []
        self.stopped: list[tuple[str, StopReason]] = []
        self.endings: dict[str, asyncio.Future[Exit]] = {}
        self.refusal: Exception | None = None

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def stage(self, launch: Launch) -> None: ...

    async def start(self, launch: Launch) -> None:
        if self.refusal is not None:
            raise self.refusal
        key = str(launch.directory)
        assert key not in self.endings, "an attempt was started twice"
        self.started.append(launch)
        self.endings[key] = asyncio.get_running_loop().create_future()

    async def look(self, directory: Path) -> Sighting:
        ending = self.endings.get(str(directory))
        if ending is None:
            return Sighting.NEVER
        return Sighting.EXITED if ending.done() else Sighting.ALIVE

    async def wait(self, directory: Path) -> Exit:
        return await asyncio.shield(self.endings[str(directory)])

    async def stop(self, directory: Path, reason: StopReason) -> None:
        self.stopped.append((str(directory), reason))
        self.end(directory, Exit(-15, stop_reason=reason))

    def end(self, directory: Path | str, ending: Exit) -> None:
        """Let an attempt end."""
        future = self.endings.get(str(directory))
        if future is not None and not future.done():
            future.set_result(ending)

    @property
    def running(self) -> list[Launch]:
        return [launch for launch in self.started if not self.endings[str(launch.directory)].done()]


class FakeTrainer:
    """Turns exit codes into verdicts: 0 completed, 9 killed, anything else trainer_error."""

    def check(self, spec: JobSpec, dataset: Dataset) -> tuple[str, ...]:
        return ()

    def prepare(self, spec: JobSpec, dataset: Dataset, assignment: Assignment) -> Launch:
        environment: Mapping[str, str] = {
            "devices": ",".join(device.uuid for device in assignment.devices)
        }
        return Launch(
            ref=assignment.ref,
            directory=assignment.directory,
            argv=("train",),
            environment=environment,
            grace_seconds=1,
        )

    def progress_log(self, directory: Path) -> Path:
        return directory / "log"

    def parse(self, line: bytes) -> TrainingPoint | None:
        step, _, loss = line.partition(b" ")
        return TrainingPoint(Progress(int(step), 10), {"train/loss": float(loss)})

    def judge(
        self, spec: JobSpec, directory: Path, ending: Exit, progress: Progress | None
    ) -> Verdict:
        if ending.stop_reason is StopReason.CANCELLED:
            return Verdict(Outcome.CANCELLED)
        if ending.code == 0:
            return Verdict(Outcome.COMPLETED)
        outcome = Outcome.KILLED if ending.code == -9 else Outcome.TRAINER_ERROR
        return Verdict(outcome, f"exit code {ending.code}", "try again")


class FakeDatasets:
    """Knows v1.0."""

    def versions(self) -> tuple[str, ...]:
        return ("v1.0",)

    def resolve(self, version: str) -> Dataset:
        return Dataset(
            version=version,
            format="alpaca",
            train_file=Path("/train.json"),
            validation_file=None,
            columns={},
            rows=1,
            sha256="0" * 64,
        )
