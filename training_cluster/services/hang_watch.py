"""Notices trainers that do nothing any more: tells once, and stops them where that is wanted."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from training_cluster.domain.device import DeviceKind
from training_cluster.domain.errors import TrainingClusterError
from training_cluster.domain.event import Event, EventType
from training_cluster.domain.job import Attempt, AttemptRef, Job, JobState, StopReason
from training_cluster.ports import Clock, Engine
from training_cluster.scheduling import hang
from training_cluster.scheduling.hang import HangRules, Pulse, Signs
from training_cluster.services.devices import DeviceWatch
from training_cluster.services.loop import Loop
from training_cluster.services.supervisor import Supervisor
from training_cluster.store import attempts, events, jobs
from training_cluster.store.database import Database
from training_cluster.store.facts import Fact

log = structlog.get_logger(__name__)

_LONGEST_PAUSE_SECONDS = 30.0
_RECENT_SECONDS = 5.0
_BEGINNINGS = (EventType.JOB_STARTED, EventType.ATTEMPT_ADOPTED)


@dataclass(frozen=True, slots=True)
class Still:
    """A running attempt in which nothing has moved for a while."""

    job_number: int
    seconds: float


class HangWatch(Loop):
    """Feels the pulse of every running attempt; sleeps while nothing runs. A new daemon begins to
    count anew."""

    name = "hangs"

    def __init__(
        self,
        database: Database,
        engine: Engine,
        devices: DeviceWatch,
        supervisor: Supervisor,
        clock: Clock,
        rules: HangRules,
    ) -> None:
        super().__init__()
        self._database = database
        self._engine = engine
        self._devices = devices
        self._supervisor = supervisor
        self._clock = clock
        self._rules = rules
        self._pulses: dict[AttemptRef, Pulse] = {}
        self._told: set[AttemptRef] = set()
        self._still: dict[AttemptRef, Still] = {}
        limits = (rules.warn_seconds, rules.stop_seconds, rules.no_step_seconds)
        shortest = min((limit for limit in limits if limit is not None), default=0.0)
        self._pause_seconds = min(_LONGEST_PAUSE_SECONDS, max(shortest / 10, 0.05))

    @property
    def still(self) -> Sequence[Still]:
        """The attempts of which somebody was told, as long as they do not move."""
        return tuple(self._still.values())

    def delay(self) -> float | None:
        """None while nothing runs, or nothing would follow."""
        return self._pause_seconds if self._pulses and not self._rules.is_off else None

    def notice(self, facts: Sequence[Fact]) -> None:
        """Learn from committed facts that an attempt has begun."""
        if any(isinstance(fact, Event) and fact.type in _BEGINNINGS for fact in facts):
            self.wake()

    async def run_once(self) -> None:
        """Look at every running attempt once."""
        if self._rules.is_off:
            return
        running = await self._database.read(_running)
        self._forget({attempt.ref for attempt, _ in running})
        for attempt, job in running:
            before, now = self._pulses.get(attempt.ref), self._clock.monotonic()
            pulse = hang.feel(before, await self._signs(attempt, job), now)
            self._pulses[attempt.ref] = pulse
            await self._judge(attempt, job, hang.still_seconds(pulse, self._rules, now))

    def _forget(self, running: set[AttemptRef]) -> None:
        self._pulses = {ref: pulse for ref, pulse in self._pulses.items() if ref in running}
        self._still = {ref: still for ref, still in self._still.items() if ref in running}
        self._told &= running

    async def _signs(self, attempt: Attempt, job: Job) -> Signs:
        vital = await self._engine.vital_signs(Path(attempt.directory))
        step = None if job.progress is None else job.progress.step
        return Signs(vital.files, vital.cpu_seconds, await self._load(attempt), step)

    async def _load(self, attempt: Attempt) -> float | None:
        """The highest load of its GPUs; None when there are none that tell."""
        if self._devices.is_steady:
            return None
        inventory = await self._devices.recent(_RECENT_SECONDS)
        loads = [
            device.utilization_percent
            for device in inventory.devices
            if device.uuid in attempt.device_uuids and device.kind is DeviceKind.GPU
        ]
        return max((load for load in loads if load is not None), default=None)

    async def _judge(self, attempt: Attempt, job: Job, still: float) -> None:
        ref = attempt.ref
        if not hang.is_over(self._rules.warn_seconds, still):
            self._told.discard(ref)
            self._still.pop(ref, None)
        else:
            self._still[ref] = Still(job.number, still)
            if ref not in self._told:
                await self._tell(job, ref, still)
        if hang.is_over(self._rules.stop_seconds, still):
            await self._stop(attempt, job, still)

    async def _tell(self, job: Job, ref: AttemptRef, still: float) -> None:
        now = self._clock.now()
        message = (
            f"nothing has moved for {still / 60:.0f} min: no log, no checkpoint, no step, no load"
        )
        data = {"seconds": round(still), "message": message, "code": "stalled"}

        def change(connection: sqlite3.Connection) -> None:
            kind = EventType.JOB_STALLED
            events.append(connection, now, kind, job.number, ref.number, data)
            jobs.warn(connection, job.number, f"attempt {ref.number}: {message}")

        try:
            await self._database.write(change)
        except TrainingClusterError:
            log.exception("will be told later", action="hang.untold", attempt=str(ref))
            return
        self._told.add(ref)
        log.warning(message, action="hang.noticed", attempt=str(ref))

    async def _stop(self, attempt: Attempt, job: Job, still: float) -> None:
        """Order the attempt to end; what follows is decided when it has."""
        now = self._clock.now()

        def change(connection: sqlite3.Connection) -> bool:
            current = jobs.find(connection, job.id)
            if (current.state, current.attempt_number) != (JobState.RUNNING, attempt.ref.number):
                return False
            attempts.mark_stopping(connection, current, StopReason.HUNG, now)
            return True

        if await self._database.write(change):
            log.warning("stopped", action="hang.stopped", attempt=str(attempt.ref), still=still)
            directory = Path(attempt.directory)
            await self._supervisor.stop_attempt(attempt.ref, directory, StopReason.HUNG)


def _running(connection: sqlite3.Connection) -> list[tuple[Attempt, Job]]:
    found = (
        (attempt, jobs.find(connection, attempt.ref.job_id))
        for attempt in attempts.active(connection)
        if attempt.started_at is not None
    )
    return [(attempt, job) for attempt, job in found if job.state is JobState.RUNNING]
