"""Turns plans into running attempts: snapshot, plan, claim, start, report."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from training_cluster.crash_points import crash_point
from training_cluster.domain.device import Device, Standing
from training_cluster.domain.errors import InvalidRequest, TrainingClusterError
from training_cluster.domain.job import (
    AttemptRef,
    Job,
    JobError,
    JobState,
    Outcome,
    QueuedJob,
    Verdict,
)
from training_cluster.ports import Assignment, Clock, Engine
from training_cluster.scheduling.plan import DeviceStatus, Placement, Plan, fits, plan
from training_cluster.services.checkpoints import Origin
from training_cluster.services.devices import DeviceWatch
from training_cluster.services.disk import Ample, Disk
from training_cluster.services.loop import Loop
from training_cluster.services.preparation import Preparer
from training_cluster.services.slots import Slots
from training_cluster.services.supervisor import Supervisor, Watched
from training_cluster.store import attempts, holds, jobs
from training_cluster.store.attempts import Claimed
from training_cluster.store.database import Database

log = structlog.get_logger(__name__)

_HEAD = 64
_SAFETY_POLL_SECONDS = 30.0
_USED = (Standing.LEASED, Standing.FREE)  # those free before this plan are taken by it
_HANDOVER_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Start:
    """A claimed attempt on its way to the engine."""

    job: Job
    claimed: Claimed
    directory: Path
    devices: tuple[Device, ...]

    @property
    def assignment(self) -> Assignment:
        """What the trainer needs to know of the claim."""
        return Assignment(
            ref=self.claimed.ref,
            directory=self.directory,
            devices=self.devices,
            master_port=self.claimed.master_port,
        )


@dataclass(frozen=True, slots=True)
class Assigned:
    """What one look at the queue led to. `room` tells whether a device stayed free, `wake_at`
    when waiting alone changes the picture (Unix seconds), `following` which job is likely to get
    which device next."""

    starts: Sequence[Start]
    room: bool
    wake_at: float | None
    following: tuple[str, Device] | None


class Dispatcher(Loop):
    """Woken by a submit, an exit, a freed device or a changed inventory; the poll is the net."""

    name = "dispatcher"

    def __init__(
        self,
        database: Database,
        devices: DeviceWatch,
        preparer: Preparer,
        engine: Engine,
        supervisor: Supervisor,
        clock: Clock,
        *,
        master_ports: range,
        trackers: frozenset[str] = frozenset(),
        disk: Disk | None = None,
        slots: Slots | None = None,
    ) -> None:
        super().__init__()
        self._slots = slots or Slots()
        self._database = database
        self._devices = devices
        self._preparer = preparer
        self._engine = engine
        self._supervisor = supervisor
        self._clock = clock
        self._master_ports = master_ports
        self._trackers = trackers
        self._disk = disk or Ample()
        self._wake_at: float | None = None
        self._following: tuple[str, Device] | None = None
        self._starting: set[asyncio.Task[None]] = set()
        self.has_room = True

    def delay(self) -> float | None:
        """The safety poll, or earlier when a retry falls due."""
        if self._wake_at is None:
            return _SAFETY_POLL_SECONDS
        return min(_SAFETY_POLL_SECONDS, max(0.0, self._wake_at - self._clock.now()))

    async def run_once(self) -> None:
        """Start every job that can start now."""
        await self._devices.fresh()
        self.apply(await self._database.write(self.assign))

    async def run_soon(self, patience_seconds: float) -> None:
        """Start what can start now, but do not wait longer than that for slow devices."""
        running = asyncio.create_task(self._run_safely(), name="dispatch")
        await asyncio.wait({running}, timeout=patience_seconds)

    async def _run_safely(self) -> None:
        try:
            await self.run_once()
        except Exception:
            log.exception("the loop will try again", action="dispatch.error")
            self.wake()

    def assign(self, connection: sqlite3.Connection) -> Assigned:
        """Plan over the queue and claim what is to start, inside the caller's transaction.

        Snapshot, plan and claim see one state of the store: nobody can come in between."""
        self._fail_broken(connection)
        devices, head = self._devices.statuses(connection), _HEAD
        room = self._disk.room(connection)
        while True:
            queued = jobs.queued(connection, head)
            snapshot = self._slots.snapshot(connection, queued, devices, room)
            decision = plan(snapshot, self._clock.now(), explain=False)
            if not decision.complete or len(queued) < head or decision.placements:
                break
            head *= 4
        starts = [start for p in decision.placements if (start := self._claim(connection, p))]
        free = sum(status.availability.is_free for status in devices)
        taken = sum(len(placement.devices) for placement in decision.placements)
        stays_free = free > taken
        following = None if stays_free else _following(queued, decision, devices)
        wake_at = self._wake_time(connection, decision, devices)
        return Assigned(starts, stays_free, wake_at, following)

    def _wake_time(
        self, connection: sqlite3.Connection, decision: Plan, devices: Sequence[DeviceStatus]
    ) -> float | None:
        """When a retry falls due or a hold ends, whichever comes first."""
        if all(status.availability.standing is not Standing.HELD for status in devices):
            return decision.wake_at
        ends = (decision.wake_at, holds.next_end(connection, self._clock.now()))
        return min((end for end in ends if end is not None), default=None)

    def apply(self, assigned: Assigned) -> None:
        """Start what was claimed, once the claim is committed."""
        for start in assigned.starts:
            self.launch(start)
        self.has_room = assigned.room
        if assigned.starts and assigned.room:
            self.wake()
        self._following = assigned.following
        if not assigned.starts:
            self._prepare_following()
        if assigned.wake_at != self._wake_at:
            self._wake_at = assigned.wake_at
            self.wake()

    def assign_freed(self, connection: sqlite3.Connection) -> Assigned | None:
        """Give away what an ended attempt frees, in the transaction that frees it; not where
        the devices must be read again first: memory may still be held."""
        return self.assign(connection) if self._devices.is_steady else None

    async def devices_freed(self, assigned: Assigned | None) -> None:
        """Start what was given away, or look at the devices and give them away now."""
        if assigned is not None:
            self.apply(assigned)
            return
        self._devices.expire()
        await self._run_safely()

    def would_start(self, connection: sqlite3.Connection, candidate: QueuedJob) -> Plan:
        """The plan if this job were in the queue, everything ahead of it considered."""
        ahead = jobs.jobs_ahead(connection, candidate.priority, candidate.number)
        queued = [*jobs.queued(connection, ahead), candidate]
        room, devices = self._disk.room(connection), self._devices.statuses(connection)
        return plan(self._slots.snapshot(connection, queued, devices, room), self._clock.now())

    def _fail_broken(self, connection: sqlite3.Connection) -> None:
        """Fail jobs whose dependencies did not complete, and then those that depend on these."""
        while broken := jobs.broken(connection):
            for job_id, culprit in broken:
                error = JobError(
                    Outcome.DEPENDENCY_FAILED.value,
                    f"job {culprit}, on which this job depends, did not complete",
                    "submit it again without depends_on, or after the other job has completed",
                )
                job = jobs.find(connection, job_id)
                jobs.end_unstarted(connection, job, JobState.FAILED, self._clock.now(), error)

    def _claim(self, connection: sqlite3.Connection, placement: Placement) -> Start | None:
        uuids = tuple(device.uuid for device in placement.devices)
        job = jobs.find(connection, placement.job_id)
        directory = self._preparer.directory(AttemptRef(job.id, job.attempt_number + 1))
        now, ports = self._clock.now(), self._master_ports
        trackers = tuple(name for name in job.spec.trackers if name in self._trackers)
        claimed = attempts.claim(connection, job, uuids, str(directory), now, ports, trackers)
        return None if claimed is None else Start(job, claimed, directory, placement.devices)

    def launch(self, start: Start) -> None:
        """Hand a claimed attempt to the engine, beside whatever else starts."""
        crash_point("claim.after_commit")
        task = asyncio.create_task(self._launch(start), name=f"start {start.claimed.ref}")
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    def _prepare_following(self) -> None:
        following, self._following = self._following, None
        if following is not None:
            self._preparer.prepare_ahead(*following)

    async def _launch(self, start: Start) -> None:
        ref = start.claimed.ref
        try:
            prepared = await self._preparer.launch(start.job, start.assignment)
            await self._record_origin(start, prepared.origin)
            await self._engine.start(prepared.launch)
        except Exception as error:
            log.warning("cannot start", action="attempt.refused", attempt=str(ref), exc_info=error)
            verdict = _refusal(error)

            async def refused() -> Verdict:
                return verdict

            await self._supervisor.conclude(ref, refused, None)
            return
        now = self._clock.now()
        try:
            await self._database.write(lambda c: attempts.mark_running(c, start.claimed, now))
        except TrainingClusterError:
            log.exception("runs unrecorded", action="attempt.unrecorded", attempt=str(ref))
        crash_point("running.after_commit")
        origin = prepared.origin
        self._supervisor.watch(
            Watched(
                ref,
                start.claimed.job_number,
                start.directory,
                start.job.spec,
                since=origin.checkpoint,
                elapsed_before=origin.elapsed_seconds,
            )
        )
        self._prepare_following()  # not earlier: it would compete with the start

    async def _record_origin(self, start: Start, origin: Origin) -> None:
        try:
            await self._preparer.checkpoints.record(start.claimed, origin, self._clock.now())
        except TrainingClusterError:
            ref = str(start.claimed.ref)
            log.exception("begins unrecorded", action="attempt.unrecorded", attempt=ref)

    async def stop(self) -> None:
        """End; attempts that are being handed over are handed over first."""
        await super().stop()
        await self._preparer.close()
        if self._starting:
            await asyncio.wait(self._starting, timeout=_HANDOVER_SECONDS)


def _following(
    queued: Sequence[QueuedJob], decision: Plan, devices: Sequence[DeviceStatus]
) -> tuple[str, Device] | None:
    """The first job that stays in the queue and can take over from a single device."""
    started = {placement.job_id for placement in decision.placements}
    leased = [s.device for s in devices if s.availability.standing in _USED]
    for job in queued:
        waits = job.waits_for or job.not_before or job.awaits_dataset
        if job.id not in started and job.gpus == 1 and not waits:
            device = next((device for device in leased if fits(job, device)), None)
            return None if device is None else (job.id, device)
    return None


def _refusal(error: Exception) -> Verdict:
    outcome = Outcome.LAUNCH_FAILED
    if isinstance(error, InvalidRequest):
        outcome = Outcome.DATASET_INVALID if "dataset" in error.code else outcome
    if isinstance(error, OSError) and error.errno == 28:
        outcome = Outcome.DISK_FULL
    hint = getattr(error, "hint", None) or "see the daemon's log; training-cluster doctor checks"
    return Verdict(outcome, str(error), hint)
