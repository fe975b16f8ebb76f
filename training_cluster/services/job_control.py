"""What people do with a job they have submitted: cancel, pause, resume, retry it."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import structlog

from training_cluster.crash_points import crash_point
from training_cluster.domain.errors import JobAlreadyFinished, WrongState
from training_cluster.domain.job import (
    ACTIVE,
    FINISHED,
    AttemptRef,
    Job,
    JobState,
    StopReason,
)
from training_cluster.domain.principal import Principal
from training_cluster.ports import Clock
from training_cluster.services.dispatcher import Dispatcher
from training_cluster.services.supervisor import Supervisor
from training_cluster.store import attempts, jobs, returns
from training_cluster.store.database import Database

log = structlog.get_logger(__name__)


class Begin(StrEnum):
    """Where a job that is tried again begins."""

    CHECKPOINT = "checkpoint"  # at its last complete checkpoint, or at the start without one
    START = "start"


@dataclass(frozen=True, slots=True)
class Controlled:
    """A job in its new state, and the step from which its next attempt goes on as things stand:
    0 for the start, None where that is not known yet or will never be asked."""

    job: Job
    step: int | None = None


@dataclass(frozen=True, slots=True)
class _Stop:
    """A stop the store knows of and the engine does not."""

    ref: AttemptRef
    directory: Path
    reason: StopReason


class JobControl:
    """Moves jobs on request. A job is named by its id or number, `by` is who asks; every method
    raises JobNotFound, and Forbidden for a job of somebody else."""

    def __init__(
        self,
        database: Database,
        dispatcher: Dispatcher,
        supervisor: Supervisor,
        clock: Clock,
    ) -> None:
        self._database = database
        self._dispatcher = dispatcher
        self._supervisor = supervisor
        self._clock = clock

    async def cancel(self, key: str, by: Principal) -> Job:
        """End a waiting job at once, have an active one stopped; returns it in its new state.

        Raises JobAlreadyFinished for one that has ended. Cancelling a job that is being cancelled
        changes nothing; one that is being paused is cancelled instead.
        """
        now = self._clock.now()

        def change(connection: sqlite3.Connection) -> tuple[Job, _Stop | None]:
            job = _find(connection, key, by)
            if job.state in FINISHED:
                raise JobAlreadyFinished(f"job {job.number} is already {job.state}")
            if job.state not in ACTIVE:
                jobs.end_unstarted(connection, job, JobState.CANCELLED, now, None, by.name)
                return replace(job, state=JobState.CANCELLED), None
            return _stop(connection, job, StopReason.CANCELLED, now, by.name)

        job, stop = await self._database.write(change)
        log.info("cancelled", action="job.cancelled", job=job.id, state=job.state.value)
        await self._carry_out(stop)
        return job

    async def pause(self, key: str, by: Principal) -> Controlled:
        """Take a waiting job out of the queue at once; have an active one save and stop, which
        frees its devices. Pausing a job that is paused or being paused changes nothing.

        Raises JobAlreadyFinished, and WrongState for one that is being stopped for good."""
        now = self._clock.now()

        def change(connection: sqlite3.Connection) -> tuple[Controlled, _Stop | None]:
            job = _find(connection, key, by)
            if job.state in FINISHED:
                raise JobAlreadyFinished(f"job {job.number} is already {job.state}")
            if job.state in ACTIVE:
                _refuse_other_stop(connection, job)
                stopping, stop = _stop(connection, job, StopReason.PAUSED, now, by.name)
                return Controlled(stopping), stop
            if job.state is JobState.QUEUED:
                returns.pause_queued(connection, job, now, by.name)
            step = attempts.reached(connection, job)
            return Controlled(replace(job, state=JobState.PAUSED), step), None

        done, stop = await self._database.write(change)
        log.info("pause", action="job.pause", job=done.job.id, state=done.job.state.value)
        await self._carry_out(stop)
        return done

    async def preempt(self, key: str) -> None:
        """Have a running job save, give its devices away and go back into the queue: the door for
        schedulers. Raises JobNotFound and WrongState for one that does not run."""
        now = self._clock.now()

        def change(connection: sqlite3.Connection) -> _Stop | None:
            job = jobs.find(connection, key)
            if job.state is not JobState.RUNNING:
                raise WrongState(f"job {job.number} is {job.state}: only a running job gives way")
            return _stop(connection, job, StopReason.PREEMPTED, now, None)[1]

        await self._carry_out(await self._database.write(change))

    async def resume(self, key: str, by: Principal, priority: int | None = None) -> Controlled:
        """Put a paused job back into the queue, ahead of later ones of its priority.

        Raises WrongState for a job that is not paused."""
        now = self._clock.now()

        def change(connection: sqlite3.Connection) -> Controlled:
            job = _find(connection, key, by)
            if job.state is not JobState.PAUSED:
                raise WrongState(
                    f"job {job.number} is {job.state}: only a paused job can be resumed",
                    hint=_INSTEAD_OF_RESUME.get(job.state),
                )
            step = returns.resume(connection, job, now, by.name, priority)
            return Controlled(replace(job, state=JobState.QUEUED), step)

        return await self._come_back(await self._database.write(change), "job.resumed")

    async def retry(self, key: str, by: Principal, begin: Begin = Begin.CHECKPOINT) -> Controlled:
        """Put a job that failed or was cancelled back into the queue: a new attempt of the same
        job, with all its retries.

        Raises WrongState for a job in another state, or one whose dependency did not complete."""
        now = self._clock.now()

        def change(connection: sqlite3.Connection) -> Controlled:
            job = _find(connection, key, by)
            if job.state not in (JobState.FAILED, JobState.CANCELLED):
                raise WrongState(
                    f"job {job.number} is {job.state}: only a job that failed or was cancelled "
                    "can be tried again",
                    hint=_INSTEAD_OF_RETRY.get(job.state),
                )
            _refuse_broken(connection, job)
            from_start = begin is Begin.START
            step = returns.retry(connection, job, now, by.name, from_start=from_start)
            return Controlled(replace(job, state=JobState.QUEUED), step)

        return await self._come_back(await self._database.write(change), "job.retried")

    async def _come_back(self, done: Controlled, action: str) -> Controlled:
        log.info("back in the queue", action=action, job=done.job.id, step=done.step)
        self._dispatcher.wake()
        return done

    async def _carry_out(self, stop: _Stop | None) -> None:
        if stop is None:
            self._dispatcher.wake()
            return
        crash_point("stop.after_commit")
        await self._supervisor.stop_attempt(stop.ref, stop.directory, stop.reason)


_INSTEAD_OF_RESUME = {
    JobState.QUEUED: "it is in the queue already",
    JobState.PREPARING: "it is starting already",
    JobState.RUNNING: "it is running already",
    JobState.STOPPING: "wait until it has stopped",
    JobState.COMPLETED: "submit it again to train it once more",
    JobState.FAILED: "POST /train/{id}/retry tries it again from its last checkpoint",
    JobState.CANCELLED: "POST /train/{id}/retry tries it again from its last checkpoint",
}
_INSTEAD_OF_RETRY = {
    **_INSTEAD_OF_RESUME,
    JobState.PAUSED: "POST /train/{id}/resume lets it go on",
}


def _find(connection: sqlite3.Connection, key: str, by: Principal) -> Job:
    job = jobs.find(connection, key)
    by.require_ownership(job.user, f"job {job.number}")
    return job


def _stop(
    connection: sqlite3.Connection, job: Job, reason: StopReason, now: float, by: str | None
) -> tuple[Job, _Stop]:
    """Record that an active job is to stop, unless it is for this reason already."""
    attempt = attempts.of_job(connection, job.number)[-1]
    if attempt.stop_reason is not reason:
        attempts.mark_stopping(connection, job, reason, now, by)
    stop = _Stop(attempt.ref, Path(attempt.directory), reason)
    return replace(job, state=JobState.STOPPING), stop


def _refuse_other_stop(connection: sqlite3.Connection, job: Job) -> None:
    asked = attempts.asked(connection, job)
    if asked not in (None, StopReason.PAUSED):
        raise WrongState(
            f"job {job.number} is being stopped ({asked}) and cannot be paused",
            hint="POST /train/{id}/retry tries it again once it has stopped",
        )


def _refuse_broken(connection: sqlite3.Connection, job: Job) -> None:
    _, broken_by = jobs.dependencies(connection, json.dumps(job.spec.depends_on))
    if broken_by is not None:
        raise WrongState(
            f"job {job.number} depends on job {broken_by}, which did not complete",
            hint=f"try job {broken_by} again first",
        )
