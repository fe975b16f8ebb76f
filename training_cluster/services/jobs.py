"""What people do with jobs: submit, look, cancel."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import structlog

from training_cluster.domain.errors import (
    FieldProblem,
    IdempotencyMismatch,
    ImpossibleRequest,
    InvalidRequest,
    JobAlreadyFinished,
    JobNotFound,
    NoDeviceFree,
    StoreUnavailable,
    TrainingClusterError,
)
from training_cluster.domain.ids import new_job_id
from training_cluster.domain.job import (
    ACTIVE,
    FINISHED,
    Attempt,
    Job,
    JobState,
    QueuedJob,
    StopReason,
)
from training_cluster.domain.spec import JobSpec
from training_cluster.ports import Clock, DatasetRegistry, Trainer
from training_cluster.scheduling.plan import describe_need, fits
from training_cluster.services.devices import DeviceWatch
from training_cluster.services.dispatcher import Assigned, Dispatcher
from training_cluster.services.model_names import ModelNames
from training_cluster.services.queue import QueueView, Waiting
from training_cluster.services.supervisor import Supervisor
from training_cluster.services.webhooks import Webhooks
from training_cluster.store import attempts, jobs, tracker_runs, webhooks
from training_cluster.store.database import Database
from training_cluster.store.jobs import NewJob
from training_cluster.store.tracker_runs import RunRow

log = structlog.get_logger(__name__)

_RETRY_AFTER_SECONDS = 30
_DISPATCH_PATIENCE_SECONDS = 0.15


class Strategy(StrEnum):
    """What to do with a job that cannot start now."""

    QUEUE = "queue"
    ACCEPT = "accept"
    REJECT = "reject"


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A validated request to run a job."""

    spec: JobSpec
    user: str
    strategy: Strategy = Strategy.QUEUE
    warnings: tuple[str, ...] = ()
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class Overview:
    """A job with all that is known beside its own record."""

    job: Job
    attempts: Sequence[Attempt]
    waiting: Waiting | None
    estimated_finish: float | None
    replayed: bool = False
    webhook_id: str | None = None
    runs: Sequence[RunRow] = ()


class Jobs:
    """The service behind every dialect's jobs. `trackers` are those that are served."""

    def __init__(
        self,
        database: Database,
        devices: DeviceWatch,
        models: ModelNames,
        datasets: DatasetRegistry,
        trainer: Trainer,
        dispatcher: Dispatcher,
        supervisor: Supervisor,
        queue: QueueView,
        webhooks: Webhooks,
        clock: Clock,
        *,
        trackers: frozenset[str] = frozenset(),
    ) -> None:
        self.trackers = trackers
        self._database = database
        self._devices = devices
        self._models = models
        self._datasets = datasets
        self._trainer = trainer
        self._dispatcher = dispatcher
        self._supervisor = supervisor
        self._queue = queue
        self._webhooks = webhooks
        self._clock = clock

    async def submit(self, submission: Submission) -> Overview:
        """Take a job: when this returns it is durable, and started if devices were free.

        Raises InvalidRequest (and its kinds) when it cannot be run, NoDeviceFree under
        strategy `reject`, IdempotencyMismatch.
        """
        spec, warnings = await asyncio.to_thread(self._check, submission.spec)
        self._refuse_impossible(spec)
        new = NewJob(
            id=new_job_id(self._clock.now()),
            user=submission.user,
            spec=spec,
            created_at=self._clock.now(),
            warnings=(*submission.warnings, *warnings),
            idempotency_key=submission.idempotency_key,
            request_sha256=_fingerprint(submission),
        )
        if submission.strategy is Strategy.REJECT:
            await self._devices.fresh()
        if spec.webhook_url is None:
            overview, assigned = await self._accept(new, submission.strategy)
        else:
            overview, assigned = await self._accept_with_webhook(new, submission.strategy)
        if assigned is not None:
            self._dispatcher.apply(assigned)
        elif self._dispatcher.has_room and not overview.replayed:
            await self._dispatcher.run_soon(_DISPATCH_PATIENCE_SECONDS)
            return await self._database.read(lambda c: self._answer(c, overview.job.id))
        return overview

    async def _accept(self, new: NewJob, strategy: Strategy) -> tuple[Overview, Assigned | None]:
        return await self._database.write(lambda c: self._store(c, new, strategy))

    async def _accept_with_webhook(
        self, new: NewJob, strategy: Strategy
    ) -> tuple[Overview, Assigned | None]:
        """Keep the job's webhook address in its file, then store the job; the file goes again
        when the job was refused or is known already."""
        assert new.spec.webhook_url is not None
        made = await self._webhooks.receiver(new.spec.webhook_url, new.user, named="webhook_url")
        hook = made.webhook
        spec = replace(new.spec, webhook_url=hook.url)
        try:
            stored = await self._accept(replace(new, spec=spec, webhook=hook), strategy)
        except StoreUnavailable:
            raise  # perhaps it was stored: the next start tells, and removes the file if not
        except TrainingClusterError:
            await self._webhooks.forget_receiver(hook)
            raise
        if stored[0].replayed:
            await self._webhooks.forget_receiver(hook)
        return stored

    def _store(
        self, connection: sqlite3.Connection, new: NewJob, strategy: Strategy
    ) -> tuple[Overview, Assigned | None]:
        """One transaction: find or insert the job, and claim devices for it where they are known
        to be free. A rejected job leaves no trace."""
        known = _known(connection, new)
        if known is not None:
            return replace(self._answer(connection, known), replayed=True), None
        now_or_never, assigned = strategy is Strategy.REJECT, None
        if now_or_never:
            self._refuse_unless_free(connection, new.spec)
        _insert(connection, new)
        if (now_or_never or self._dispatcher.has_room) and self._devices.is_fresh:
            assigned = self._dispatcher.assign(connection)
        job = jobs.find(connection, new.id)
        return Overview(job, (), self._queue.quick(connection, job), None), assigned

    def _check(self, spec: JobSpec) -> tuple[JobSpec, tuple[str, ...]]:
        resolved = replace(spec, model_name=self._models.resolve(spec.model_name))
        dataset = self._datasets.resolve(spec.dataset_version)
        return resolved, self._trainer.check(resolved, dataset)

    def _refuse_impossible(self, spec: JobSpec) -> None:
        wanted = QueuedJob("", 0, gpus=spec.gpus, min_memory_bytes=spec.min_memory_bytes)
        devices = self._devices.latest.devices
        possible = sum(fits(wanted, device) for device in devices)
        if devices and possible < spec.gpus:
            need = describe_need(spec.gpus, spec.min_memory_bytes)
            raise ImpossibleRequest(
                f"the job needs {need}, and {possible} of the {len(devices)} of this machine "
                "could serve it",
                problems=(FieldProblem("gpus", f"{spec.gpus} asked for", f"at most {possible}"),),
            )

    def _refuse_unless_free(self, connection: sqlite3.Connection, spec: JobSpec) -> None:
        candidate = QueuedJob(
            "candidate",
            jobs.LAST,
            priority=spec.priority,
            gpus=spec.gpus,
            min_memory_bytes=spec.min_memory_bytes,
        )
        decision = self._dispatcher.would_start(connection, candidate)
        if all(placement.job_id != candidate.id for placement in decision.placements):
            reason = decision.waiting.get(candidate.id)
            why = reason.message if reason else "no device is free"
            raise NoDeviceFree(
                f"the job was rejected: {why}",
                retry_after_seconds=_RETRY_AFTER_SECONDS,
                hint="submit with strategy=queue to have it wait",
            )

    def _answer(self, connection: sqlite3.Connection, job_id: str) -> Overview:
        job = jobs.find(connection, job_id)
        return Overview(job, (), self._queue.waiting(connection, job), None)

    async def get(self, key: str) -> Overview:
        """A job by id or number, with attempts and prospects. Raises JobNotFound."""
        return await self._database.read(lambda c: self._overview(c, key))

    def _overview(self, connection: sqlite3.Connection, key: str) -> Overview:
        job = jobs.find(connection, key)
        known = attempts.of_job(connection, job.number)
        return Overview(
            job,
            known,
            self._queue.waiting(connection, job),
            self._queue.finish(connection, job),
            webhook_id=webhooks.of_job(connection, job.number),
            runs=tracker_runs.of_job(connection, job.number),
        )

    async def page(
        self, *, state: JobState | None, user: str | None, before: int, limit: int
    ) -> list[Job]:
        """Jobs with a number below `before`, newest first."""
        return await self._database.read(
            lambda c: jobs.page(c, state=state, user=user, before=before, limit=limit)
        )

    async def cancel(self, key: str) -> Job:
        """End a queued job at once, have an active one stopped; returns it in its new state.

        Raises JobNotFound, and JobAlreadyFinished for one that has ended. Cancelling a job that
        is stopping changes nothing.
        """
        now = self._clock.now()

        def change(connection: sqlite3.Connection) -> tuple[Job, Path | None]:
            job = jobs.find(connection, key)
            if job.state in FINISHED:
                raise JobAlreadyFinished(f"job {job.number} is already {job.state}")
            if job.state not in ACTIVE:
                jobs.end_unstarted(connection, job, JobState.CANCELLED, now, None)
                return replace(job, state=JobState.CANCELLED), None
            attempt = attempts.of_job(connection, job.number)[-1]
            if job.state is not JobState.STOPPING:
                attempts.mark_stopping(connection, job, StopReason.CANCELLED, now)
            return replace(job, state=JobState.STOPPING), Path(attempt.directory)

        job, directory = await self._database.write(change)
        log.info("cancelled", action="job.cancelled", job=job.id, state=job.state.value)
        if directory is not None:
            await self._supervisor.stop_attempt(directory, StopReason.CANCELLED)
        else:
            self._dispatcher.wake()
        return job


def _insert(connection: sqlite3.Connection, new: NewJob) -> None:
    spec = replace(new.spec, depends_on=_resolve(connection, new.spec.depends_on))
    jobs.insert(connection, replace(new, spec=spec))


def _known(connection: sqlite3.Connection, new: NewJob) -> str | None:
    """The job made with the same Idempotency-Key, if any. Raises IdempotencyMismatch."""
    if new.idempotency_key is None:
        return None
    known = jobs.by_idempotency_key(connection, new.user, new.idempotency_key)
    if known is not None and known[1] != new.request_sha256:
        raise IdempotencyMismatch(hint="use a fresh key for a different job")
    return known[0] if known else None


def _resolve(connection: sqlite3.Connection, keys: tuple[str, ...]) -> tuple[str, ...]:
    resolved = []
    for index, key in enumerate(keys):
        try:
            resolved.append(jobs.find(connection, key).id)
        except JobNotFound as error:
            problem = FieldProblem(f"depends_on.{index}", error.message, "the id of a job")
            raise InvalidRequest(error.message, problems=(problem,)) from error
    return tuple(dict.fromkeys(resolved))


def _fingerprint(submission: Submission) -> str:
    text = submission.spec.to_json() + submission.strategy.value
    return hashlib.sha256(text.encode()).hexdigest()
