"""What the daemon does first: finds out what became of the attempts of its predecessor."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import structlog

from training_cluster.crash_points import crash_point
from training_cluster.domain.errors import StorageFull
from training_cluster.domain.event import EventType
from training_cluster.domain.job import Attempt, Job, JobState, Outcome, StopReason, Verdict
from training_cluster.ports import Clock, Engine, Sighting
from training_cluster.scheduling import retry
from training_cluster.services.devices import DeviceWatch
from training_cluster.services.dispatcher import Dispatcher, Start
from training_cluster.services.supervisor import SAVING, Supervisor, Watched
from training_cluster.store import attempts, events, jobs
from training_cluster.store.attempts import Claimed
from training_cluster.store.database import Database

log = structlog.get_logger(__name__)


class Recovery:
    """The disk is the truth: exit file, lock and start marker tell what each attempt did."""

    def __init__(
        self,
        database: Database,
        engine: Engine,
        devices: DeviceWatch,
        supervisor: Supervisor,
        dispatcher: Dispatcher,
        clock: Clock,
    ) -> None:
        self._database = database
        self._engine = engine
        self._devices = devices
        self._supervisor = supervisor
        self._dispatcher = dispatcher
        self._clock = clock

    async def run_once(self) -> int:
        """Take over every active attempt of the store; returns how many there were."""
        found = await self._database.read(_active)
        for attempt, job in found:
            sighting = await self._engine.look(Path(attempt.directory))
            log.info(
                "found", action="recovery.found", attempt=str(attempt.ref), sighting=sighting.value
            )
            if sighting is Sighting.NEVER:
                await self._start_or_end(attempt, job)
            else:
                await self._adopt(attempt, job, sighting)
        return len(found)

    async def _adopt(self, attempt: Attempt, job: Job, sighting: Sighting) -> None:
        now, claimed = self._clock.now(), Claimed(attempt.ref, job.number, attempt.master_port)

        def change(connection: sqlite3.Connection) -> None:
            attempts.mark_running(connection, claimed, now)
            kind = EventType.ATTEMPT_ADOPTED
            data = {"sighting": sighting.value}
            events.append(connection, now, kind, job.number, attempt.ref.number, data)

        crash_point("recovery.before_adoption")
        try:
            await self._database.write(change)
            crash_point("recovery.after_adoption")
        except StorageFull:  # it is watched all the same: its end is stored once there is room
            log.warning("adopted unrecorded", action="recovery.full", attempt=str(attempt.ref))
        directory = Path(attempt.directory)
        self._supervisor.watch(
            Watched(
                attempt.ref,
                job.number,
                directory,
                job.spec,
                attempt.log_offset,
                job.progress,
                since=attempt.resumed_from,
                elapsed_before=attempt.elapsed_before,
                saving=attempt.stop_reason in SAVING,
            )
        )
        if job.state is JobState.STOPPING and sighting is Sighting.ALIVE:
            reason = attempt.stop_reason or StopReason.CANCELLED
            await self._supervisor.stop_attempt(attempt.ref, directory, reason)

    async def _start_or_end(self, attempt: Attempt, job: Job) -> None:
        """The predecessor died between claim and start: the same attempt is started now."""
        if job.state is JobState.STOPPING:
            lost = Verdict(Outcome.LOST, "stopped before it was started")
            verdict = retry.as_asked(lost, attempt.stop_reason or StopReason.CANCELLED)
            await self._supervisor.end(attempt.ref, verdict, None)
            return
        usable = await self._database.read(self._devices.usable)
        if not all(uuid in usable for uuid in attempt.device_uuids):
            await self._give_back(attempt, job)
            return
        devices = tuple(usable[uuid] for uuid in attempt.device_uuids)
        claimed = Claimed(attempt.ref, job.number, attempt.master_port)
        self._dispatcher.launch(Start(job, claimed, Path(attempt.directory), devices))

    async def _give_back(self, attempt: Attempt, job: Job) -> None:
        """Its devices are gone, in doubt or in use by now: the job waits again, at no cost."""
        now = self._clock.now()
        verdict = Verdict(Outcome.PREEMPTED, "the devices it was given cannot be used any more")
        await self._database.write(lambda c: attempts.end(c, job, verdict, None, now, now))


def _active(connection: sqlite3.Connection) -> list[tuple[Attempt, Job]]:
    found = attempts.active(connection)
    return [(attempt, jobs.find(connection, attempt.ref.job_id)) for attempt in found]
