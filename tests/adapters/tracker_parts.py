"""What the tests of trackers share: runs, lines, a caller like the daemon, a look at processes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from training_cluster.adapters.system_clock import SystemClock
from training_cluster.adapters.tracker_process import WorkerTracker, worker_command
from training_cluster.adapters.tracker_process.tracker import MOST_PAUSE_SECONDS
from training_cluster.adapters.tracker_process.worker_process import MARKER
from training_cluster.domain.errors import TrackerUnavailable
from training_cluster.ports import RunEnding, TrackedLine, TrackedRun

STARTED = 1_700_000_000.25
STEP_SECONDS = 1.125
SYSTEM_EVERY = 10
PATIENCE_SECONDS = 60.0


def a_run(key: str = "job-1", **changes: Any) -> TrackedRun:
    """A run that started long ago."""
    fields: dict[str, Any] = {
        "key": key,
        "name": f"run of {key}",
        "project": "tests",
        "started_at": STARTED,
        "parameters": {"learning_rate": 2e-5, "model_name": "tiny", "resume": None},
        "tags": {"job_id": key, "user": "alice"},
        "labels": ("lab",),
        **changes,
    }
    return TrackedRun(**fields)


def some_lines(number: int) -> list[TrackedLine]:
    """Lines of a trainer, with one about a device now and then."""
    return [_line(position) for position in range(number)]


def _line(position: int) -> TrackedLine:
    when = STARTED + position * STEP_SECONDS
    if position % SYSTEM_EVERY == SYSTEM_EVERY - 1:
        values = {"system/gpu_0_power_watts": 300 + position / 7}
        return TrackedLine(position, position // SYSTEM_EVERY, when, values)
    loss, rate = 5 / (position + 1), 1e-5 * position
    return TrackedLine(
        position, position * 5, when, {"train/loss": loss, "train/learning_rate": rate}
    )


def an_ending(lines: int, **changes: Any) -> RunEnding:
    """A good ending after so many lines."""
    fields: dict[str, Any] = {
        "status": "completed",
        "ended_at": STARTED + 3600.5,
        "lines": lines,
        **changes,
    }
    return RunEnding(**fields)


def points(lines: list[TrackedLine]) -> dict[str, list[tuple[int, float, float]]]:
    """Step, time and value of each point by name: what must be read back."""
    curves: dict[str, list[tuple[int, float, float]]] = {}
    for line in lines:
        for name, value in line.values.items():
            curves.setdefault(name, []).append((line.step, line.time, value))
    return curves


class HurriedClock:
    """The clock of a tracker that is killed often: no pause between starts lasts until the next
    look at it, however soon that is."""

    def __init__(self) -> None:
        self._looks = itertools.count()

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return next(self._looks) * 2 * MOST_PAUSE_SECONDS


@contextlib.asynccontextmanager
async def a_tracker(
    name: str, python: Path, configuration: Mapping[str, Any], **changes: Any
) -> AsyncIterator[WorkerTracker]:
    """A tracker with a real worker; holds afterwards that no process of it is left."""
    environment = changes.pop("environment", {})
    fields: dict[str, Any] = {"clock": SystemClock(), "deadline_seconds": 60.0, **changes}
    command = changes.pop("command", worker_command(python, name))
    fields.pop("command", None)
    home = {"HOME": str(configuration["folder"]), "PATH": os.environ["PATH"], **environment}
    tracker = WorkerTracker(name, command, configuration, home, **fields)
    try:
        yield tracker
    finally:
        await tracker.close()
    assert not processes_of(Path(configuration["folder"]))


async def deliver(
    tracker: WorkerTracker,
    run: TrackedRun,
    lines: list[TrackedLine],
    ending: RunEnding,
    *,
    batch: int = 25,
    acknowledged: Callable[[], Any] = int,
) -> int:
    """Bring a whole run to a tracker as the daemon does: keep a cursor, and open it again after
    every failure. Calls `acknowledged` after each batch; returns how often the run was opened."""
    cursor, times_opened = 0, 0
    while True:
        try:
            opened = await tracker.open(run)
            times_opened += 1
            cursor = cursor if opened.recorded is None else opened.recorded
            while cursor < len(lines):
                await tracker.log(run.key, lines[cursor : cursor + batch])
                cursor = min(cursor + batch, len(lines))
                acknowledged()
            await tracker.finish(run.key, ending)
        except TrackerUnavailable:
            await asyncio.sleep(0.02)
        else:
            return times_opened


def processes_of(folder: Path) -> list[int]:
    """Every process a tracker's worker in this folder started, and the worker."""
    wanted = f"{MARKER}={os.path.realpath(folder)}/".encode()
    return [pid for pid in _pids() if wanted in _environment(pid)]


async def until(condition: Callable[[], Any]) -> Any:
    """Wait for a condition; its value."""
    patience = time.monotonic() + PATIENCE_SECONDS
    while not (value := condition()):
        assert time.monotonic() < patience, "waited in vain"
        await asyncio.sleep(0.02)
    return value


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""
