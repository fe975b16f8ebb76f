"""`ports.Tracker` by a worker process that is started when needed and replaced when it fails."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training_cluster.adapters.tracker_process import wire
from training_cluster.adapters.tracker_process.worker_process import (
    WorkerGone,
    WorkerHung,
    WorkerProcess,
)
from training_cluster.domain.errors import TrackerRefused, TrackerUnavailable
from training_cluster.domain.masking import without_password
from training_cluster.ports import Clock, OpenedRun, RunEnding, TrackedLine, TrackedRun

WORKER = Path(__file__).resolve().parents[2] / "tracker_worker"
FINISH_FACTOR = 10  # finishing carries files
MOST_PAUSE_SECONDS = 60.0
INSTALL_HINT = "run `training-cluster tracker install`"


def worker_command(python: Path, tracker: str) -> tuple[str, ...]:
    """How to start the worker of a tracker (mlflow or wandb) by an environment's Python."""
    return (str(python), "-I", str(WORKER), tracker)


class WorkerTracker:
    """A tracker whose worker may hang, leak or die at any time without harm to the caller.

    `configuration` goes to the worker as it is; its `folder` is where the worker keeps its lock,
    log and files. The worker gets exactly `environment`, where secrets belong. A request without
    an answer after `deadline_seconds` (ten times that to finish a run) costs the worker its life.
    """

    def __init__(
        self,
        name: str,
        command: tuple[str, ...],
        configuration: Mapping[str, Any],
        environment: Mapping[str, str],
        *,
        clock: Clock,
        deadline_seconds: float = 60.0,
        idle_seconds: float = 300.0,
    ) -> None:
        self.name = name
        self._command = command
        folder = os.path.realpath(configuration["folder"])  # one spelling: it marks processes
        self._configuration = {**configuration, "folder": folder}
        self._environment = dict(environment)
        self._clock = clock
        self.deadline_seconds = deadline_seconds
        self._idle_seconds = idle_seconds
        self._generation = 0
        self._worker: WorkerProcess | None = None
        self._changing = asyncio.Lock()  # held while the worker is started or ended
        self._opened: set[str] = set()
        self._failures = 0
        self._not_before = 0.0
        self._last_failure = ""
        self._idle: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._is_closed = False

    @property
    def generation(self) -> int:
        """Grows with every start of a worker: runs opened before are to be opened again."""
        return self._generation

    @property
    def worker_pid(self) -> int | None:
        """The process id of the worker; None when there is none now."""
        return self._worker.pid if self._worker is not None and self._worker.is_alive else None

    async def open(self, run: TrackedRun) -> OpenedRun:
        """Find the run or make it, and have it count as running again."""
        worker = await self._living_worker()
        answer = await self._ask(worker, "open", run.key, run=wire.run(run))
        if self._worker is not worker:
            raise TrackerUnavailable(f"{self.name}: {self._last_failure}")
        self._opened.add(run.key)
        return wire.opened(answer)

    async def log(self, key: str, lines: Sequence[TrackedLine]) -> None:
        """Add lines to an opened run, in order."""
        await self._ask(await self._worker_of(key), "log", key, lines=wire.lines(lines))
        self._failures = 0

    async def finish(self, key: str, ending: RunEnding) -> None:
        """Add artifacts and the final status. The run is to be opened again whatever comes of it,
        unless the tracker could not be reached."""
        worker = await self._worker_of(key)
        await self._ask(worker, "finish", key, ending=wire.ending(ending))
        self._opened.discard(key)
        self._failures = 0
        self._rest_when_idle()

    async def close(self) -> None:
        """End the worker and all it started; runs stay as they are."""
        self._is_closed = True
        async with self._changing:
            await self._end_worker()
        await asyncio.gather(*self._ending)

    async def _worker_of(self, key: str) -> WorkerProcess:
        """The worker that opened a run."""
        await self._bury()
        if self._worker is None or key not in self._opened:
            raise TrackerUnavailable(f"{self.name}: run {key} is not open: open it again")
        return self._worker

    async def _living_worker(self) -> WorkerProcess:
        await self._bury()
        async with self._changing:
            if self._worker is None:
                self._check_start()
                self._worker = await self._start()
            return self._worker

    def _check_start(self) -> None:
        if self._is_closed:
            raise TrackerUnavailable(f"{self.name} was closed")
        pause = self._not_before - self._clock.monotonic()
        if pause > 0:
            raise TrackerUnavailable(
                f"{self.name}: {self._last_failure} (next try in {pause:.0f} s)"
            )

    async def _start(self) -> WorkerProcess:
        folder = Path(self._configuration["folder"])
        try:
            worker = await WorkerProcess.start(self._command, self._environment, folder, self.name)
        except OSError as error:
            self._pause(f"cannot start {self._command[0]}: {error.strerror}")
            raise TrackerUnavailable(
                f"{self.name}: {self._last_failure}", hint=INSTALL_HINT
            ) from error
        self._generation += 1
        await self._configure(worker)
        return worker

    async def _configure(self, worker: WorkerProcess) -> None:
        try:
            answer = await worker.ask(
                "configure", self.deadline_seconds, configuration=self._configuration
            )
            why = _message(answer) if "error" in answer else None
        except (WorkerGone, WorkerHung) as error:
            why = str(error)
        except asyncio.CancelledError:
            await worker.kill()
            raise
        if why is not None:
            await worker.kill()
            self._pause(why)
            raise TrackerUnavailable(f"{self.name}: {why}", hint=_hint(why))

    async def _ask(self, worker: WorkerProcess, op: str, key: str, **fields: Any) -> dict[str, Any]:
        seconds = self.deadline_seconds * (FINISH_FACTOR if op == "finish" else 1)
        try:
            answer = await worker.ask(op, seconds, key=key, **fields)
        except (WorkerGone, WorkerHung) as error:
            await self._bury(worker, str(error))
            why = without_password(str(error))
            raise TrackerUnavailable(f"{self.name}: {why}") from error
        finally:
            self._rest_when_idle()
        return self._result(key, answer)

    def _result(self, key: str, answer: dict[str, Any]) -> dict[str, Any]:
        if "error" not in answer:
            result: dict[str, Any] = answer["ok"]
            return result
        message = _message(answer)
        if answer["error"]["kind"] == "refused":
            self._opened.discard(key)
            raise TrackerRefused(message)
        raise TrackerUnavailable(message)

    async def _bury(self, hung: WorkerProcess | None = None, why: str = "") -> None:
        """Kill what is left of a worker that died, or of the given one that hangs."""
        async with self._changing:
            worker = self._worker
            if worker is None or (worker.is_alive and worker is not hung):
                return
            self._forget_worker()
            self._pause(why or "the worker has died")
            await worker.kill()

    async def _end_worker(self) -> None:
        if self._worker is not None:
            worker = self._worker
            self._forget_worker()
            self._last_failure = "the worker was ended"
            await worker.end()

    def _forget_worker(self) -> None:
        self._worker = None
        self._opened.clear()

    def _pause(self, why: str) -> None:
        """No further start for a while, longer each time until something succeeds."""
        self._last_failure = why
        pause = min(MOST_PAUSE_SECONDS, 2.0**self._failures)
        self._failures = min(self._failures + 1, 10)
        self._not_before = self._clock.monotonic() + pause

    def _rest_when_idle(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        loop = asyncio.get_running_loop()
        self._idle = loop.call_later(self._idle_seconds, self._rest)

    def _rest(self) -> None:
        """End a worker nobody uses: it holds memory."""
        if self._is_used():
            return
        task = asyncio.create_task(self._end_idle_worker())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _end_idle_worker(self) -> None:
        async with self._changing:
            if not self._is_used():
                with contextlib.suppress(OSError):
                    await self._end_worker()

    def _is_used(self) -> bool:
        return bool(self._opened) or (self._worker is not None and self._worker.is_busy)


def _hint(why: str) -> str | None:
    return INSTALL_HINT if "ModuleNotFoundError" in why else None


def _message(answer: Mapping[str, Any]) -> str:
    """What a worker says went wrong; libraries repeat addresses with the password in them."""
    return without_password(str(answer["error"]["message"]))
