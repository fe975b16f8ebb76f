"""Waits for the end of each attempt and turns it into the job's next state."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import structlog

from training_cluster.crash_points import crash_point
from training_cluster.domain.errors import StaleTransition
from training_cluster.domain.job import (
    ACTIVE,
    AttemptRef,
    Checkpoint,
    EndedAttempt,
    Job,
    JobState,
    Outcome,
    Progress,
    StopReason,
    Verdict,
)
from training_cluster.domain.spec import JobSpec
from training_cluster.ports import Clock, Engine, Exit, Trainer
from training_cluster.scheduling import retry
from training_cluster.scheduling.retry import DEFAULT_POLICY, RecoveryPolicy
from training_cluster.services.metrics import MetricsFollower
from training_cluster.store import attempts, jobs, returns
from training_cluster.store.database import Database

log = structlog.get_logger(__name__)

# stopped by the daemon itself: the job may have another attempt
_GOES_ON = frozenset({Outcome.PREEMPTED, Outcome.HUNG})
# no job runs on by itself against these, however its attempt came to its end
_AGAINST = frozenset({StopReason.CANCELLED, StopReason.PAUSED, StopReason.TIMED_OUT})
_AFTER_ERROR_SECONDS = 1.0
SAVING = frozenset({StopReason.PAUSED, StopReason.PREEMPTED})
"""Reasons for which an attempt saves, so that another one can go on from there."""
_SAVED = frozenset({Outcome.PAUSED, Outcome.PREEMPTED})


@dataclass(frozen=True, slots=True)
class Watched:
    """An attempt under supervision. It goes on from the checkpoint `since`, after
    `elapsed_before` seconds of training; `saving` says that it was told to save and stop."""

    ref: AttemptRef
    job_number: int
    directory: Path
    spec: JobSpec
    log_offset: int = 0
    progress: Progress | None = None
    since: Checkpoint | None = None
    elapsed_before: float = 0.0
    saving: bool = False


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
        *,
        policy: RecoveryPolicy = DEFAULT_POLICY,
        saving_seconds: float = 600.0,
    ) -> None:
        self._database = database
        self._engine = engine
        self._trainer = trainer
        self._metrics = metrics
        self._clock = clock
        self._policy = policy
        self._saving_seconds = saving_seconds
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
            watched.ref,
            watched.job_number,
            watched.directory,
            watched.log_offset,
            since=watched.since,
            elapsed_before=watched.elapsed_before,
        )
        tail.held = watched.saving
        try:
            ending = await self._engine.wait(watched.directory)
        finally:
            self._metrics.drop(watched.ref)

        async def judged() -> Verdict:
            if not tail.held:
                await self._metrics.catch_up(tail)
            verdict = await self._judge(watched, ending, tail.progress or watched.progress)
            if tail.held:
                await self._metrics.catch_up(tail, _last_step(verdict))
            return verdict

        await self.conclude(watched.ref, judged, ending.code)

    async def _judge(self, watched: Watched, ending: Exit, progress: Progress | None) -> Verdict:
        facts = (watched.spec, watched.directory, ending, progress)
        if ending.code == 0 and progress is None:  # it left nothing to read: no thread hop
            return self._trainer.judge(*facts)
        return await asyncio.to_thread(self._trainer.judge, *facts)

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
            state = self._conclude(connection, job, verdict, exit_code, now)
            assigned = self.queue.assign_freed(connection)
            crash_point("end.before_commit")
            return state, assigned

        state, assigned = await self._database.write(change)
        crash_point("end.after_commit")
        await self.queue.devices_freed(assigned)
        log.info(
            "attempt ended",
            action="attempt.ended",
            job=ref.job_id,
            attempt=ref.number,
            outcome=verdict.outcome.value,
            state=state.value,
        )

    def _conclude(
        self,
        connection: sqlite3.Connection,
        job: Job,
        verdict: Verdict,
        exit_code: int | None,
        now: float,
    ) -> JobState:
        """Decide what follows and put it into the store."""
        asked = attempts.asked(connection, job)
        verdict = _explained(connection, job, retry.as_asked(verdict, asked))
        ended = EndedAttempt(verdict.outcome, _advances(connection, job, verdict))
        history = [*returns.history(connection, job), ended]
        decision = retry.decide(history, job.spec.max_retries, self._policy)
        if asked in _AGAINST and verdict.outcome not in _GOES_ON:
            decision = None
        if decision is None and (losses := retry.given_up_after(history, self._policy)):
            message = f"{verdict.message}; lost {losses} times in a row without a new checkpoint"
            verdict = replace(verdict, message=message)
        retry_at = None if decision is None else now + decision.delay_seconds
        return attempts.end(connection, job, verdict, exit_code, now, retry_at)

    async def stop_attempt(self, ref: AttemptRef, directory: Path, reason: StopReason) -> None:
        """Tell an attempt to stop, be it still on its way to the engine; its end is handled as
        any other. One that is to go on later gets the time to save. To be called once the store
        knows of the stop (`attempts.mark_stopping`)."""
        await asyncio.to_thread(directory.mkdir, mode=0o700, parents=True, exist_ok=True)
        if reason not in SAVING:
            await self._engine.stop(directory, reason)
            return
        self._metrics.hold(ref)
        await self._engine.stop(directory, reason, self._saving_seconds)

    async def close(self) -> None:
        """Stop watching; the attempts run on and are adopted by the next daemon."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _last_step(verdict: Verdict) -> int | None:
    """The last step whose lines hold; None when all do."""
    if verdict.outcome in _SAVED and verdict.checkpoint is not None:
        return verdict.checkpoint.step
    return None


def _advances(connection: sqlite3.Connection, job: Job, verdict: Verdict) -> bool:
    saved = verdict.checkpoint
    return saved is not None and saved.step > attempts.reached(connection, job)


def _explained(connection: sqlite3.Connection, job: Job, verdict: Verdict) -> Verdict:
    """A pause says from where the job will go on, above all if nothing was saved."""
    if verdict.outcome is not Outcome.PAUSED:
        return verdict
    before = attempts.reached(connection, job)
    if verdict.checkpoint is not None:
        saved = f"saved at step {verdict.checkpoint.step}"
    elif before:
        saved = f"nothing was saved: it goes on from step {before}, the last complete checkpoint"
    else:
        saved = "nothing was saved: it goes on from the start"
    return replace(verdict, message=f"{verdict.message}; {saved}")
