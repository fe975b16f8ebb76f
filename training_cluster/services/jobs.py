"""What people do with jobs: submit and look; `job_control.py` has what they do with them then."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import structlog

from training_cluster.crash_points import crash_point
from training_cluster.domain.dialect import DialectRequest
from training_cluster.domain.errors import (
    FieldProblem,
    ImpossibleRequest,
    NoDeviceFree,
    StoreUnavailable,
    TooManyJobs,
    TrainingClusterError,
    UnknownDataset,
)
from training_cluster.domain.ids import new_job_id
from training_cluster.domain.job import Attempt, Job, JobState, QueuedJob
from training_cluster.domain.spec import JobSpec
from training_cluster.ports import Clock, Dataset, Trainer
from training_cluster.scheduling.plan import describe_need, fits
from training_cluster.services import admission
from training_cluster.services.dataset_choice import Chosen, DatasetChoice
from training_cluster.services.devices import DeviceWatch
from training_cluster.services.disk import Ample, Disk
from training_cluster.services.dispatcher import Assigned, Dispatcher
from training_cluster.services.job_control import JobControl
from training_cluster.services.model_names import ModelNames
from training_cluster.services.queue import QueueView, Waiting
from training_cluster.services.starting_models import pinned
from training_cluster.services.supervisor import Supervisor
from training_cluster.services.webhooks import Webhooks
from training_cluster.store import attempts, jobs, tracker_runs, webhooks
from training_cluster.store.database import Database
from training_cluster.store.jobs import NewJob
from training_cluster.store.tracker_runs import RunRow

log = structlog.get_logger(__name__)

LAST = jobs.LAST
"""Above the number of every job."""

_Checked = tuple[JobSpec, tuple[str, ...], int]  # with its model found, warnings, disk bytes
_RETRY_AFTER_SECONDS = 30
_DISPATCH_PATIENCE_SECONDS = 0.15


class Strategy(StrEnum):
    """What to do with a job that cannot start now."""

    QUEUE = "queue"
    ACCEPT = "accept"
    REJECT = "reject"


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A validated request to run a job. `request` is what a dialect must remember of it; an admin
    may start from everybody's models."""

    spec: JobSpec
    user: str
    strategy: Strategy = Strategy.QUEUE
    warnings: tuple[str, ...] = ()
    idempotency_key: str | None = None
    request: DialectRequest | None = None
    is_admin: bool = False


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


class Jobs(JobControl):
    """The service behind every dialect's jobs. `trackers` are those that are served,
    `queued_per_user` how many jobs one user may have waiting."""

    def __init__(
        self,
        database: Database,
        devices: DeviceWatch,
        models: ModelNames,
        datasets: DatasetChoice,
        trainer: Trainer,
        dispatcher: Dispatcher,
        supervisor: Supervisor,
        queue: QueueView,
        webhooks: Webhooks,
        clock: Clock,
        *,
        trackers: frozenset[str] = frozenset(),
        queued_per_user: int = 10_000,
        disk: Disk | None = None,
    ) -> None:
        super().__init__(database, dispatcher, supervisor, clock)
        self.trackers = trackers
        self._queued_per_user = queued_per_user
        self._disk = disk or Ample()
        self._devices = devices
        self._models = models
        self._datasets = datasets
        self._trainer = trainer
        self._queue = queue
        self._webhooks = webhooks

    async def submit(self, submission: Submission) -> Overview:
        """Take a job: when this returns it is durable, and started if devices were free.

        Raises InvalidRequest (and its kinds) when it cannot be run, NoDeviceFree under
        strategy `reject`, IdempotencyMismatch, TooManyJobs, and StorageFull.
        """
        self._disk.require_room()
        asked, admin = submission.spec, submission.is_admin
        asked = await pinned(self._database, self._trainer, asked, submission.user, is_admin=admin)
        reader = None if admin else submission.user
        (spec, warnings, disk_bytes), chosen = await self._checked(asked, reader)
        self._refuse_impossible(spec)
        new = NewJob(
            id=new_job_id(self._clock.now()),
            user=submission.user,
            spec=spec,
            created_at=self._clock.now(),
            warnings=(*submission.warnings, *warnings),
            idempotency_key=submission.idempotency_key,
            request_sha256=_fingerprint(submission),
            disk_bytes=disk_bytes,
            request=submission.request,
            dataset_id=chosen.dataset_id if chosen else None,
            dataset_pending=chosen is not None and chosen.dataset is None,
        )
        if submission.strategy is Strategy.REJECT:
            await self._devices.fresh()
        if spec.webhook_url is None:
            overview, assigned = await self._accept(new, submission.strategy)
        else:
            overview, assigned = await self._accept_with_webhook(new, submission.strategy)
        crash_point("submit.after_commit")
        if assigned is not None:
            self._dispatcher.apply(assigned)
        elif self._may_start(spec) and not overview.replayed:
            await self._dispatcher.run_soon(_DISPATCH_PATIENCE_SECONDS)
            return await self._database.read(lambda c: self._answer(c, overview.job.id))
        elif spec.depends_on:
            self._dispatcher.wake()  # what it depends on may have failed already
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
        known = admission.known_job(connection, new)
        if known is not None:
            return replace(self._answer(connection, known), replayed=True), None
        self._refuse_hoarder(connection, new.user)
        now_or_never, assigned = strategy is Strategy.REJECT, None
        if now_or_never:
            self._refuse_unless_free(connection, new)
        admission.insert(connection, new)
        if (now_or_never or self._may_start(new.spec)) and self._devices.is_fresh:
            assigned = self._dispatcher.assign(connection)
        job = jobs.find(connection, new.id)
        crash_point("submit.before_commit")
        return Overview(job, (), self._queue.quick(connection, job), None), assigned

    def _may_start(self, spec: JobSpec) -> bool:
        return self._dispatcher.has_room or not spec.needs_device

    async def _checked(self, spec: JobSpec, reader: str | None) -> tuple[_Checked, Chosen | None]:
        """The spec as it is to be stored, and its dataset if that is none of a folder."""
        if not spec.uses_dataset:
            return await asyncio.to_thread(self._check, spec, None), None
        try:
            return await asyncio.to_thread(self._check_with_folder, spec), None
        except UnknownDataset as unknown:
            chosen = await self._datasets.choose(spec.dataset_version, unknown, reader)
        spec = replace(spec, dataset_version=chosen.key)
        return await asyncio.to_thread(self._check, spec, chosen.dataset), chosen

    def _check_with_folder(self, spec: JobSpec) -> _Checked:
        return self._check(spec, self._datasets.folders.resolve(spec.dataset_version))

    def _check(self, spec: JobSpec, dataset: Dataset | None) -> _Checked:
        resolved = self._models.locate(spec)
        warnings = self._trainer.check(resolved, dataset)
        if dataset is None and spec.uses_dataset:
            return resolved, warnings, 0
        need = self._trainer.disk_need(resolved, dataset)
        self._disk.require_possible(need)
        remarks = dataset.remarks if dataset is not None else ()
        return resolved, (*warnings, *remarks), need.total_bytes

    def _refuse_impossible(self, spec: JobSpec) -> None:
        wanted = QueuedJob("", 0, gpus=spec.gpus, min_memory_bytes=spec.min_memory_bytes)
        devices = self._devices.latest.devices
        possible = sum(fits(wanted, device) for device in devices)
        if devices and spec.needs_device and possible < spec.gpus:
            need = describe_need(spec.gpus, spec.min_memory_bytes)
            raise ImpossibleRequest(
                f"the job needs {need}, and {possible} of the {len(devices)} of this machine "
                "could serve it",
                problems=(FieldProblem("gpus", f"{spec.gpus} asked for", f"at most {possible}"),),
            )

    def _refuse_hoarder(self, connection: sqlite3.Connection, user: str) -> None:
        most = self._queued_per_user
        if jobs.has_queued(connection, user, most):
            raise TooManyJobs(
                f"{user} has {most} jobs waiting, which is the most",
                retry_after_seconds=_RETRY_AFTER_SECONDS,
                hint="wait until some have started, or cancel some",
            )

    def _refuse_unless_free(self, connection: sqlite3.Connection, new: NewJob) -> None:
        spec = new.spec
        candidate = QueuedJob(
            "candidate",
            jobs.LAST,
            priority=spec.priority,
            gpus=spec.gpus if spec.needs_device else 0,
            min_memory_bytes=spec.min_memory_bytes,
            disk_bytes=new.disk_bytes,
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

    def settings(self, spec: JobSpec) -> Mapping[str, Any]:
        """What a job's recipe and fields decide, by the trainer's names. Reads small files.
        Raises InvalidRequest."""
        return self._trainer.settings(spec)

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
        self,
        *,
        limit: int,
        state: JobState | None = None,
        user: str | None = None,
        before: int = LAST,
        metadata: Mapping[str, str] | None = None,
        kind: str | None = None,
    ) -> list[Job]:
        """Jobs with a number below `before`, newest first; with `metadata` those that were asked
        for with all of these words, with an empty one those without any."""
        return await self._database.read(
            lambda c: jobs.page(
                c,
                state=state,
                user=user,
                before=before,
                limit=limit,
                metadata=metadata,
                kind=kind,
            )
        )


def _fingerprint(submission: Submission) -> str | None:
    if submission.idempotency_key is None:
        return None
    remembered = submission.request.to_json() if submission.request else ""
    text = submission.spec.to_json() + submission.strategy.value + remembered
    return hashlib.sha256(text.encode()).hexdigest()
