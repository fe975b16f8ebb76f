"""One fake for each outside boundary; the store is always the real one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.factories import NOW
from training_cluster.domain.device import Device, Inventory
from training_cluster.domain.disk import DiskNeed
from training_cluster.domain.errors import FieldProblem, InvalidRequest, TrackerUnavailable
from training_cluster.domain.job import (
    Checkpoint,
    Outcome,
    Progress,
    StopReason,
    TrainingPoint,
    Verdict,
)
from training_cluster.domain.spec import JobSpec
from training_cluster.ports import (
    Assignment,
    Dataset,
    Endpoint,
    EndpointFormat,
    Exit,
    Launch,
    OpenedRun,
    Receipt,
    RunEnding,
    Sighting,
    TrackedLine,
    TrackedRun,
    VitalSigns,
)


class FakeClock:
    """A clock that moves when it is told to."""

    def __init__(self, now: float = NOW) -> None:
        self.time = now
        self.offset = 0.0
        self.pending_step = 0.0

    def now(self) -> float:
        return self.time + self.offset

    def monotonic(self) -> float:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += seconds

    def step(self, seconds: float) -> None:
        """Somebody sets the machine's wall clock."""
        self.pending_step += seconds

    def stepped_seconds(self) -> float:
        return self.pending_step

    def shift(self, seconds: float) -> None:
        self.offset += seconds
        self.pending_step -= seconds


class FakeInventory:
    """Shows whatever devices it is given."""

    def __init__(self, *devices: Device, source: str = "nvml") -> None:
        self.devices = devices
        self.source = source
        self.reads = 0

    def read(self) -> Inventory:
        self.reads += 1
        return Inventory(tuple(self.devices), self.source, NOW)

    def close(self) -> None: ...


class FakeEngine:
    """Attempts that end when the test says so. Remembers every start, and outlives a daemon."""

    def __init__(self) -> None:
        self.started: list[Launch] = []
        self.stopped: list[tuple[str, StopReason]] = []
        self.endings: dict[str, asyncio.Future[Exit]] = {}
        self.signs = VitalSigns(0, 0.0)
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

    async def vital_signs(self, directory: Path) -> VitalSigns:
        return self.signs

    async def look(self, directory: Path) -> Sighting:
        ending = self.endings.get(str(directory))
        if ending is None:
            return Sighting.NEVER
        return Sighting.EXITED if ending.done() else Sighting.ALIVE

    async def wait(self, directory: Path) -> Exit:
        return await asyncio.shield(self.endings[str(directory)])

    async def stop(
        self, directory: Path, reason: StopReason, grace_seconds: float | None = None
    ) -> None:
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

    def check(self, spec: JobSpec, dataset: Dataset | None) -> tuple[str, ...]:
        return ()

    def settings(self, spec: JobSpec) -> Mapping[str, Any]:
        return {**spec.overrides}

    def disk_need(self, spec: JobSpec, dataset: Dataset | None) -> DiskNeed:
        return DiskNeed(checkpoints=2, checkpoint_bytes=10 << 20, other_bytes=10 << 20)

    def prepare(self, spec: JobSpec, dataset: Dataset | None, assignment: Assignment) -> Launch:
        environment: Mapping[str, str] = {
            "devices": ",".join(device.uuid for device in assignment.devices)
        }
        if assignment.resume_from is not None:
            environment = {**environment, "from": str(assignment.resume_from.step)}
        return Launch(
            ref=assignment.ref,
            directory=assignment.directory,
            argv=("train",),
            environment=environment,
            grace_seconds=1,
        )

    def progress_log(self, directory: Path) -> Path:
        return directory / "log"

    def parse(self, line: bytes, since: Checkpoint | None = None) -> TrainingPoint | None:
        step, _, loss = line.partition(b" ")
        return TrainingPoint(Progress(int(step), 10), {"train/loss": float(loss)})

    def parameters(self, directory: Path) -> Mapping[str, bool | int | float | str | None]:
        return {"learning_rate": 2e-5}

    def artifacts(self, directory: Path, *, model: bool) -> Mapping[str, Path]:
        return {"model.bin": directory / "model.bin"} if model else {}

    def judge(
        self, spec: JobSpec, directory: Path, ending: Exit, progress: Progress | None
    ) -> Verdict:
        if ending.stop_reason is None and ending.code == 0:
            return Verdict(Outcome.COMPLETED)
        saved = self.checkpoint(spec, directory)
        if ending.stop_reason is not None:
            return Verdict(Outcome(ending.stop_reason.value), checkpoint=saved)
        outcome = {-9: Outcome.KILLED, None: Outcome.LOST}.get(ending.code, Outcome.TRAINER_ERROR)
        return Verdict(outcome, f"exit code {ending.code}", "try again", checkpoint=saved)

    def checkpoint(
        self, spec: JobSpec, directory: Path, besides: Collection[Path] = ()
    ) -> Checkpoint | None:
        """Files named `checkpoint-STEP` in the attempt's folder are complete checkpoints."""
        steps = {
            int(path.name.removeprefix("checkpoint-")): path
            for path in directory.glob("checkpoint-*")
            if path not in besides
        }
        return Checkpoint(steps[max(steps)], max(steps)) if steps else None


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


@dataclass
class FakeRun:
    """What a tracker holds of a run; `lines` in the order in which they came."""

    opened: TrackedRun
    lines: list[TrackedLine] = field(default_factory=list)
    ending: RunEnding | None = None


class FakeTracker:
    """Keeps runs in memory and outlives a daemon. One that `counts` keeps every line it is given
    and tells how many it has; the other takes a repeated position for the same line.

    `fault` is asked before (False) and after (True) every effect and may raise."""

    name = "mlflow"

    def __init__(self, *, counts: bool = False) -> None:
        self.counts = counts
        self.runs: dict[str, FakeRun] = {}
        self.open_here: set[str] = set()
        self.fault: Callable[[str, bool], None] = lambda call, done: None

    async def open(self, run: TrackedRun) -> OpenedRun:
        self.fault("open", False)
        known = self.runs.setdefault(run.key, FakeRun(run))
        known.opened, known.ending = run, None
        self.open_here.add(run.key)
        self.fault("open", True)
        return OpenedRun(f"id-{run.key}", recorded=len(known.lines) if self.counts else None)

    async def log(self, key: str, lines: Sequence[TrackedLine]) -> None:
        self.fault("log", False)
        run = self._opened(key)
        have = {line.position for line in run.lines}
        run.lines += [line for line in lines if self.counts or line.position not in have]
        self.fault("log", True)

    async def finish(self, key: str, ending: RunEnding) -> None:
        self.fault("finish", False)
        run = self._opened(key)
        if len(run.lines) != ending.lines:
            raise TrackerUnavailable("lines are missing")
        run.ending = ending
        self.fault("finish", True)

    async def close(self) -> None:
        self.open_here.clear()

    def _opened(self, key: str) -> FakeRun:
        if key not in self.open_here:
            raise TrackerUnavailable("the run is not open")
        return self.runs[key]


@dataclass(frozen=True)
class Told:
    """One message as a receiver got it."""

    url: str
    secrets: tuple[str, ...]
    message_id: str
    time: float
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        return dict(json.loads(self.body))


class FakeNotifier:
    """Remembers what it was given to send; `answer` says what a receiver makes of it."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self.answer: Callable[[Told], Receipt | Awaitable[Receipt]] = lambda _: Receipt(200)

    def check(self, url: str) -> EndpointFormat:
        if not url.startswith("https://"):
            problem = FieldProblem("url", "its scheme is not https", "https://...")
            raise InvalidRequest("this address cannot be used", problems=(problem,))
        return EndpointFormat.SLACK if "hooks.slack.com" in url else EndpointFormat.STANDARD

    def render(self, format: EndpointFormat, document: Mapping[str, Any]) -> bytes:  # noqa: A002
        return json.dumps(document).encode()

    async def send(
        self, endpoint: Endpoint, message_id: str, timestamp: float, body: bytes
    ) -> Receipt:
        told = Told(endpoint.url, endpoint.secrets, message_id, timestamp, body)
        self.told.append(told)
        receipt = self.answer(told)
        return receipt if isinstance(receipt, Receipt) else await receipt

    async def close(self) -> None: ...

    def to(self, url: str) -> list[Told]:
        """What one receiver was told, in order."""
        return [told for told in self.told if told.url == url]
