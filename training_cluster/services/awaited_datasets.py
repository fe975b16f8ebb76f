"""Lets jobs go on, or fail, once the dataset they wait for was checked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from training_cluster.domain.errors import InvalidRequest, StaleTransition
from training_cluster.domain.event import Event, EventType
from training_cluster.domain.job import Job, JobError, Outcome
from training_cluster.ports import Clock, Trainer
from training_cluster.services.dataset_choice import DatasetChoice
from training_cluster.services.disk import Ample, Disk
from training_cluster.services.loop import Loop
from training_cluster.store import awaited_datasets
from training_cluster.store.database import Database
from training_cluster.store.facts import Fact

log = structlog.get_logger(__name__)

_AT_ONCE = 64
_SAFETY_POLL_SECONDS = 60.0
_HINT = "GET /datasets/<name> shows what its check has found"


class AwaitedDatasets(Loop):
    """Woken by a checked dataset and by a job that comes back into the queue; `on_admitted` is
    called when a job may be given devices."""

    name = "awaited datasets"

    def __init__(
        self,
        database: Database,
        choice: DatasetChoice,
        trainer: Trainer,
        clock: Clock,
        disk: Disk | None = None,
    ) -> None:
        super().__init__()
        self._database = database
        self._choice = choice
        self._trainer = trainer
        self._clock = clock
        self._disk = disk or Ample()
        self.on_admitted: Callable[[], None] = lambda: None

    def delay(self) -> float | None:
        """The net below the wake-ups."""
        return _SAFETY_POLL_SECONDS

    def notice(self, facts: Sequence[Fact]) -> None:
        """A job that was paused while it waited is looked at once it is back."""
        if any(isinstance(f, Event) and f.type is EventType.JOB_RESUMED for f in facts):
            self.wake()

    async def run_once(self) -> None:
        """Look at every job whose dataset was checked."""
        while waiting := await self._database.read(lambda c: awaited_datasets.arrived(c, _AT_ONCE)):
            for job in waiting:
                await self._settle(job)

    async def _settle(self, job: Job) -> None:
        try:
            warnings, disk_bytes = await self._check(job)
        except InvalidRequest as error:
            await self._refuse(job, error)
            return
        try:
            await self._database.write(
                lambda c: awaited_datasets.admit(c, job, warnings, disk_bytes)
            )
        except StaleTransition:
            return  # cancelled or paused in the meantime
        self.on_admitted()

    async def _check(self, job: Job) -> tuple[tuple[str, ...], int]:
        dataset = await self._choice.handed_in(job)
        assert dataset is not None
        warnings = await asyncio.to_thread(self._trainer.check, job.spec, dataset)
        need = await asyncio.to_thread(self._trainer.disk_need, job.spec, dataset)
        self._disk.require_possible(need)
        return (*warnings, *dataset.remarks), need.total_bytes

    async def _refuse(self, job: Job, error: InvalidRequest) -> None:
        reason = JobError(Outcome.DATASET_INVALID.value, error.message, error.hint or _HINT)
        now = self._clock.now()
        try:
            await self._database.write(lambda c: awaited_datasets.refuse(c, job, reason, now))
        except StaleTransition:
            return
        facts = {"job": job.id, "why": error.message}
        log.warning("its dataset cannot be used", action="job.dataset_invalid", **facts)
        self.on_admitted()
