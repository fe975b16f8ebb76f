"""Waits for the end of each attempt and turns it into the job's next state."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import structlog

from training_cluster.domain.errors import StaleTransition
from training_cluster.domain.job import (
    ACTIVE,
    AttemptRef,
    Job,
    JobState,
    Progress,
    StopReason,
    Verdict,
)
from training_cluster.domain.spec import JobSpec
from training_cluster.ports import Clock, Engine, Trainer
from training_cluster.scheduling import retry
from training_cluster.services.metrics import MetricsFollower
from training_cluster.store import attempts, jobs
from training_cluster.store.database import Database

log = structlog.get_logger(__name__)

_AFTER_ERROR_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Watched:
    """An attempt under supervision."""

    ref: AttemptRef
    job_number: int
    directory: Path
    spec: JobSpec
    log_offset: int = 0
    progress: Progress | None = None


class FreedDevices(Protocol):
    """Whoever gives freed devices to waiting jobs."""

    def assign_freed(self, connection: sqlite3.Connection) -> Any:
        """Called in the transaction that frees devices; claims what can start, if that is known
        without looking at the devices again."""
        ...

    async def devices_freed(self, assigned: Any) -> None:
        """Called when that transaction is committed, with what the first call returned."""
        ...


class Unattended:
    """Gives nothing away."""

    def assign_freed(self, connection: sqlite3.Connection) -> None: ...

    async def devices_freed(self, assigned: object) -> None: ...


class Supervisor:
    """One task for each active attempt; none of them ends with the daemon's own end."""

    def __init__(
        self,
        database: Database,
        engine: Engine,
        trainer: Trainer,
        metrics: MetricsFollower,
        clock: Clock,
    ) -> None:
        self._database = database
        self._engine = engine
        self._trainer = trainer
        self._metrics = metrics
        self._clock = clock
        self._tasks: dict[AttemptRef, asyncio.Task[None]] = {}
        self.queue: FreedDevices = Unattended()

    def watch(self, watched: Watched) -> None:
        """Take an attempt under supervision, once."""
        if watched.ref not in self._tasks:
            task = asyncio.create_task(self._supervise(watched), name=f"watch {watched.ref}")
            self._tasks[watched.ref] = task
            task.add_done_callback(lambda _: self._tasks.pop(watched.ref, None))

    async def _supervise(self, watched: Watched) -> None:
        tail = self._metrics.follow(
            watched.ref, watched.job_number, watched.directory, watched.log_offset
        )
        try:
            ending = await self._engine.wait(watched.directory)
        finally:
            self._metrics.drop(watched.ref)

        async def judged() -> Verdict:
            await self._metrics.catch_up(tail)
            progress = tail.progress or watched.progress
            facts = (watched.spec, watched.directory, ending, progress)
            if ending.code == 0 and progress is None:  # it left nothing to read: no thread hop
                return self._trainer.judge(*facts)
            return await asyncio.to_thread(self._trainer.judge, *facts)

        await self.conclude(watched.ref, judged, ending.code)

    async def conclude(
        self, ref: AttemptRef, judged: Callable[[], Awaitable[Verdict]], exit_code: int | None
    ) -> None:
        """See to it that the end of an attempt reaches the store, however long that is
        unavailable."""
        while True:
            try:
                await self.end(ref, await judged(), exit_code)
                break
            except StaleTransition:
                log.info("already concluded", action="attempt.stale", attempt=str(ref))
                break
            except Exception:
                log.exception("will try again", action="attempt.conclude", attempt=str(ref))
                await asyncio.sleep(_AFTER_ERROR_SECONDS)

    async def end(self, ref: AttemptRef, verdict: Verdict, exit_code: int | None) -> None:
        """Store an attempt's end and free its devices; have them given away at once.

        Raises StaleTransition when it was ended already."""
        now = self._clock.now()

        def change(connection: sqlite3.Connection) -> tuple[JobState, Any]:
            job = jobs.find(connection, ref.job_id)
            if job.attempt_number != ref.number or job.state not in ACTIVE:
                raise StaleTransition(f"attempt {ref} has already ended")
            retry_at = _retry_at(connection, job, verdict, now)
            state = attempts.end(connection, job, verdict, exit_code, now, retry_at)
            return state, self.queue.assign_freed(connection)

        state, assigned = await self._database.write(change)
        await self.queue.devices_freed(assigned)
        log.info(
            "attempt ended",
            action="attempt.ended",
            job=ref.job_id,
            attempt=ref.number,
            outcome=verdict.outcome.value,
            state=state.value,
        )

    async def stop_attempt(self, directory: Path, reason: StopReason) -> None:
        """Tell an attempt to stop, be it still on its way to the engine; its end is handled as
        any other."""
        await asyncio.to_thread(directory.mkdir, mode=0o700, parents=True, exist_ok=True)
        await self._engine.stop(directory, reason)

    async def close(self) -> None:
        """Stop watching; the attempts run on and are adopted by the next daemon."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _retry_at(
    connection: sqlite3.Connection, job: Job, verdict: Verdict, now: float
) -> float | None:
    if job.state is JobState.STOPPING or job.spec.max_retries == 0:
        return None
    failures = attempts.failures(connection, job.number) + 1
    decision = retry.decide(verdict.outcome, failures, job.spec.max_retries)
    return None if decision is None else now + decision.delay_seconds
