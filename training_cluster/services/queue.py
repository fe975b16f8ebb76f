"""The queue as people see it: positions, wait reasons, estimates."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from training_cluster.domain.disk import DiskRoom
from training_cluster.domain.job import ACTIVE, Attempt, Job, JobState, QueuedJob
from training_cluster.ports import Clock
from training_cluster.scheduling import estimate
from training_cluster.scheduling.plan import DeviceStatus, WaitCode, WaitReason, plan
from training_cluster.services.devices import DeviceWatch
from training_cluster.services.disk import Ample, Disk
from training_cluster.services.slots import Slots
from training_cluster.store import apart, attempts, jobs
from training_cluster.store.database import Database

_EXPLAINED = 256
_EXPLAINED_AT_ONCE = 8
_MOST_LISTED = 1000
_FIGURES_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """A queued job's prospects. `position` 1 is next; `start` is Unix seconds."""

    position: int
    reason: WaitReason
    start: float | None


@dataclass(frozen=True, slots=True)
class QueueState:
    """The whole queue at one moment: active attempts, queued jobs in order, devices."""

    running: Sequence[tuple[Job, Attempt]]
    queued: Sequence[tuple[QueuedJob, Waiting]]
    queued_total: int
    devices: Sequence[DeviceStatus]
    disk: DiskRoom | None = None


class QueueView:
    """Answers why and how long, by planning over the present without applying the plan."""

    def __init__(
        self,
        database: Database,
        devices: DeviceWatch,
        clock: Clock,
        disk: Disk | None = None,
        slots: Slots | None = None,
    ) -> None:
        self._disk = disk or Ample()
        self._slots = slots or Slots()
        self._database = database
        self._devices = devices
        self._clock = clock

    async def state(self) -> QueueState:
        """Running and queued jobs, and the devices."""
        if self._devices.is_steady:  # nobody else reads them again
            await self._devices.recent(_FIGURES_SECONDS)
        return await self._database.read(self._state)

    def _state(self, connection: sqlite3.Connection) -> QueueState:
        active = _active(connection)
        queued = jobs.queued(connection, _MOST_LISTED)
        devices = self._devices.statuses(connection)
        total = jobs.counts(connection).get(JobState.QUEUED, 0)
        prospects = self._prospects(connection, queued, devices, active)
        waiting = list(zip(queued, prospects, strict=True))
        return QueueState(active, waiting, total, devices, self._disk.room(connection))

    def waiting(self, connection: sqlite3.Connection, job: Job) -> Waiting | None:
        """The prospects of one job; None unless it is queued."""
        if job.state is not JobState.QUEUED:
            return None
        ahead = jobs.jobs_ahead(connection, job.priority, job.number)
        if not job.spec.needs_device:
            return self._waiting_apart(connection, job, ahead)
        if ahead >= _EXPLAINED:
            return Waiting(ahead + 1, _behind(ahead), None)
        queued = jobs.queued(connection, ahead + 1)
        devices = self._devices.statuses(connection)
        prospects = self._prospects(connection, queued, devices, _active(connection))
        return prospects[-1] if prospects else None

    def _waiting_apart(self, connection: sqlite3.Connection, job: Job, ahead: int) -> Waiting:
        """Why a job waits that takes no device: what waits for devices is not in its way."""
        queued, now = apart.queued(connection, _EXPLAINED), self._clock.now()
        room = self._disk.room(connection)
        decision = plan(self._slots.snapshot(connection, queued, (), room), now)
        starts = any(placement.job_id == job.id for placement in decision.placements)
        starting = WaitReason(WaitCode.STARTING, "starts now") if starts else _behind(ahead)
        reason = decision.waiting.get(job.id) or starting
        return Waiting(ahead + 1, reason, now if starts else None)

    def quick(self, connection: sqlite3.Connection, job: Job) -> Waiting | None:
        """As `waiting` for the newest job of the store, cheap enough for the answer to its
        submission: behind several others it waits for them, and no plan is made to say so."""
        if job.state is JobState.QUEUED and job.spec.needs_device:
            ahead = jobs.jobs_ahead_of_newest(connection, job.priority)
            if ahead >= _EXPLAINED_AT_ONCE:
                return Waiting(ahead + 1, _behind(ahead), None)
        return self.waiting(connection, job)

    def finish(self, connection: sqlite3.Connection, job: Job) -> float | None:
        """When a running job is likely to end, in Unix seconds."""
        if job.started_at is None or job.state not in ACTIVE:
            return None
        typical = estimate.typical_seconds(jobs.recent_durations(connection))
        now = self._clock.now()
        trained = job.progress.elapsed_seconds if job.progress else None
        elapsed = max(now - job.started_at, 0.0) if trained is None else trained
        left = estimate.remaining_seconds(job.progress, elapsed, typical)
        return None if left is None else now + left

    def _prospects(
        self,
        connection: sqlite3.Connection,
        queued: Sequence[QueuedJob],
        devices: Sequence[DeviceStatus],
        active: Sequence[tuple[Job, Attempt]],
    ) -> list[Waiting]:
        now = self._clock.now()
        room = self._disk.room(connection)
        snapshot = self._slots.snapshot(connection, queued[:_EXPLAINED], devices, room)
        decision = plan(snapshot, now)
        delays = self._delays(connection, queued, devices, active)
        starting = {placement.job_id for placement in decision.placements}
        prospects = []
        for index, (job, delay) in enumerate(zip(queued, delays, strict=True)):
            reason = decision.waiting.get(job.id) or _otherwise(job, index, starting)
            start = None if delay is None else now + delay
            prospects.append(Waiting(index + 1, reason, start))
        return prospects

    def _delays(
        self,
        connection: sqlite3.Connection,
        queued: Sequence[QueuedJob],
        devices: Sequence[DeviceStatus],
        active: Sequence[tuple[Job, Attempt]],
    ) -> list[float | None]:
        typical = estimate.typical_seconds(jobs.recent_durations(connection))
        if typical is None:
            return [None] * len(queued)
        now = self._clock.now()
        free_in = [0.0 for status in devices if status.availability.is_free]
        for job, attempt in active:
            elapsed = max(now - (attempt.started_at or attempt.created_at), 0.0)
            left = estimate.remaining_seconds(job.progress, elapsed, typical)
            free_in += [left or 0.0] * len(attempt.device_uuids)
        return estimate.start_delays(free_in, [job.gpus for job in queued], typical)


def _active(connection: sqlite3.Connection) -> list[tuple[Job, Attempt]]:
    found = attempts.active(connection)
    return [(jobs.find(connection, attempt.ref.job_id), attempt) for attempt in found]


def _behind(ahead: int) -> WaitReason:
    return WaitReason(WaitCode.NOT_PLANNED, f"{ahead} jobs are ahead of it")


def _otherwise(job: QueuedJob, ahead: int, starting: set[str]) -> WaitReason:
    if job.id in starting:
        return WaitReason(WaitCode.STARTING, "starts now")
    if job.broken_by is not None:
        return WaitReason(WaitCode.DEPENDENCY, f"job {job.broken_by} did not complete")
    return _behind(ahead)
