"""The services put together as the daemon does it, over fakes and a real store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from pathlib import Path

from tests.fakes import (
    FakeClock,
    FakeDatasets,
    FakeEngine,
    FakeInventory,
    FakeNotifier,
    FakeTrainer,
)
from training_cluster.domain.device import BusyPolicy
from training_cluster.domain.job import Job, JobState
from training_cluster.domain.spec import JobSpec
from training_cluster.services.dataset_choice import DatasetChoice
from training_cluster.services.dataset_files import DatasetFiles
from training_cluster.services.deliveries import Deliveries
from training_cluster.services.devices import DeviceWatch
from training_cluster.services.dispatcher import Dispatcher
from training_cluster.services.jobs import Jobs, Overview, Strategy, Submission
from training_cluster.services.metrics import MetricsFollower
from training_cluster.services.model_names import ModelNames
from training_cluster.services.preparation import Preparer
from training_cluster.services.queue import QueueView
from training_cluster.services.recovery import Recovery
from training_cluster.services.secret_files import SecretFiles
from training_cluster.services.supervisor import Supervisor
from training_cluster.services.webhooks import Webhooks
from training_cluster.store import jobs
from training_cluster.store.database import Database
from training_cluster.store.progress import Limits


class Household:
    """One daemon's services; make another over the same engine and folder to restart it."""

    def __init__(
        self,
        folder: Path,
        inventory: FakeInventory,
        engine: FakeEngine | None = None,
        clock: FakeClock | None = None,
        notifier: FakeNotifier | None = None,
        store: type[Database] = Database,
        trackers: frozenset[str] = frozenset(),
    ) -> None:
        self.clock = clock or FakeClock()
        self.engine = engine or FakeEngine()
        self.inventory = inventory
        self.database = store(folder / "queue.db")
        self.trainer = trainer = FakeTrainer()
        self.files = DatasetFiles(folder / "datasets")
        self.choice = datasets = DatasetChoice(self.database, self.files, FakeDatasets())
        models = ModelNames([folder / "models"])
        self.devices = DeviceWatch(
            inventory,
            self.database,
            self.clock,
            policy=BusyPolicy(),
            poll_seconds=1,
            deadline_seconds=1,
        )
        self.metrics = MetricsFollower(self.database, trainer, self.clock, Limits())
        self.supervisor = Supervisor(self.database, self.engine, trainer, self.metrics, self.clock)
        self.dispatcher = Dispatcher(
            self.database,
            self.devices,
            Preparer(
                self.database,
                datasets,
                trainer,
                self.engine,
                folder / "jobs",
                models=models,
            ),
            self.engine,
            self.supervisor,
            self.clock,
            master_ports=range(29500, 29600),
            trackers=trackers,
        )
        self.supervisor.queue = self.dispatcher
        self.recovery = Recovery(
            self.database, self.engine, self.devices, self.supervisor, self.dispatcher, self.clock
        )
        self.notifier = notifier or FakeNotifier()
        self.addresses = SecretFiles(folder / "secrets")
        secrets = (f"whsec_secret{number}" for number in count(1))
        self.webhooks = Webhooks(
            self.database,
            self.addresses,
            self.notifier,
            self.clock,
            new_secret=lambda: next(secrets),
        )
        self.deliveries = Deliveries(
            self.database,
            self.addresses,
            self.notifier,
            self.devices,
            self.clock,
            base_url="http://box.lab:23478",
            jitter=lambda: 0.0,
        )
        self.webhooks.on_due = self.deliveries.wake
        self.jobs = Jobs(
            self.database,
            self.devices,
            models,
            datasets,
            trainer,
            self.dispatcher,
            self.supervisor,
            QueueView(self.database, self.devices, self.clock),
            self.webhooks,
            self.clock,
        )

    async def submit(self, strategy: Strategy = Strategy.QUEUE, **fields: object) -> Overview:
        spec = JobSpec(**fields)  # type: ignore[arg-type]
        return await self.jobs.submit(Submission(spec=spec, user="alice", strategy=strategy))

    async def job(self, key: str | int) -> Job:
        return await self.database.read(lambda c: jobs.find(c, str(key)))

    async def reaches(self, key: str | int, state: JobState) -> Job:
        """Wait until a job is in a state."""
        await self.until(lambda: self._is(key, state))
        return await self.job(key)

    async def _is(self, key: str | int, state: JobState) -> bool:
        return (await self.job(key)).state is state

    @staticmethod
    async def until(check: Callable[[], object]) -> None:
        """Wait until something is true; fails after half a minute."""
        async with asyncio.timeout(30):
            while True:
                found = check()
                if asyncio.iscoroutine(found):
                    found = await found
                if found:
                    return
                await asyncio.sleep(0.001)

    async def close(self) -> None:
        """As a daemon that ends: attempts go on."""
        await self.dispatcher.stop()
        await self.deliveries.stop()
        await self.supervisor.close()
        await self.devices.stop()
        self.database.close()
