"""Prepares attempts for the engine: directory, dataset, checkpoint, the trainer's files.

While every device is taken, the next job is made ready ahead, down to a runner that only waits for
the word, so that a device that becomes free does not wait for that. What was made ready is used
only if it fits what was claimed.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from training_cluster.crash_points import crash_point
from training_cluster.domain.device import Device, DeviceKind
from training_cluster.domain.job import AttemptRef, Job, JobState
from training_cluster.domain.spec import JobSpec
from training_cluster.ports import Assignment, Dataset, Engine, Launch, Trainer
from training_cluster.services.checkpoints import Checkpoints, Origin
from training_cluster.services.dataset_choice import DatasetChoice
from training_cluster.services.model_names import ModelNames
from training_cluster.store import jobs
from training_cluster.store.database import Database

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Ahead:
    """An attempt prepared before its claim."""

    ref: AttemptRef
    place: object
    launch: Launch


@dataclass(frozen=True, slots=True)
class Prepared:
    """An attempt that can be launched, and where it begins."""

    launch: Launch
    origin: Origin


class Preparer:
    """Turns a spec and an assignment into a launch."""

    def __init__(
        self,
        database: Database,
        datasets: DatasetChoice,
        trainer: Trainer,
        engine: Engine,
        jobs_dir: Path,
        *,
        models: ModelNames,
    ) -> None:
        self.checkpoints = Checkpoints(database, trainer)
        self._database = database
        self._datasets = datasets
        self._trainer = trainer
        self._engine = engine
        self._jobs_dir = jobs_dir
        self._models = models
        self._ahead: _Ahead | None = None
        self._working: asyncio.Task[None] | None = None

    def directory(self, ref: AttemptRef) -> Path:
        """Where an attempt lives."""
        return self._jobs_dir / ref.job_id / f"attempt-{ref.number}"

    async def launch(self, job: Job, assignment: Assignment) -> Prepared:
        """Write the files of a job's next attempt; `job` as it was before its claim. Raises
        InvalidRequest and OSError."""
        if self._working is not None:
            await asyncio.wait({self._working})
        ahead = self._ahead
        if ahead and ahead.ref == assignment.ref and ahead.place == _place(assignment.devices):
            self._ahead = None
            return Prepared(ahead.launch, Origin())
        origin = await self.checkpoints.origin(job)
        assignment = replace(assignment, resume_from=origin.checkpoint)
        launch = await self._write(job, assignment)
        return Prepared(launch, origin)

    def prepare_ahead(self, job_id: str, device: Device) -> None:
        """Get a queued single-device job ready, in case it gets this device next; not one that
        has to look for a checkpoint to go on from."""
        known = self._ahead is not None and self._ahead.ref.job_id == job_id
        if not known and self._working is None:
            self._working = asyncio.create_task(self._write_ahead(job_id, device), name="ahead")

    async def _write_ahead(self, job_id: str, device: Device) -> None:
        try:
            job = await self._database.read(lambda c: jobs.find(c, job_id))
            if job.state is not JobState.QUEUED or job.attempt_number:
                return
            ref = AttemptRef(job_id, job.attempt_number + 1)
            assignment = Assignment(ref=ref, directory=self.directory(ref), devices=(device,))
            launch = await self._write(job, assignment)
            await self._engine.stage(launch)
            self._ahead = _Ahead(ref, _place((device,)), launch)
        except Exception as error:
            log.info("not ahead", action="preparation.ahead", job=job_id, why=str(error))
        finally:
            self._working = None

    async def _write(self, job: Job, assignment: Assignment) -> Launch:
        dataset = await self._datasets.handed_in(job)
        return await asyncio.to_thread(self._prepare, job.spec, dataset, assignment)

    def _prepare(self, spec: JobSpec, dataset: Dataset | None, assignment: Assignment) -> Launch:
        assignment.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if dataset is None and spec.uses_dataset:
            dataset = self._datasets.folders.resolve(spec.dataset_version)
        # links may lead elsewhere than when the job was submitted
        spec = self._models.locate(spec)
        launch = self._trainer.prepare(spec, dataset, assignment)
        crash_point("prepare.after_files")
        return launch

    async def close(self) -> None:
        """Finish what is being written."""
        if self._working is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._working


def _place(devices: tuple[Device, ...]) -> object:
    """What of a device a launch depends on: one CPU slot is like another."""
    return tuple(
        device.kind if device.kind is DeviceKind.CPU else device.uuid for device in devices
    )
