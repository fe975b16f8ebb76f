"""The daemon put together: every service over its store, its adapters and its peers."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import structlog

from training_cluster.adapters.dataset_directory import DatasetDirectory
from training_cluster.adapters.local_engine import LocalEngine
from training_cluster.adapters.peer_user import user_name
from training_cluster.adapters.system_clock import SystemClock
from training_cluster.adapters.webhook import new_secret
from training_cluster.api.services import Services
from training_cluster.daemon.choices import (
    busy_policy,
    choose_inventory,
    choose_notifier,
    choose_trackers,
    choose_trainer,
    has_trainer,
    own_url,
    trainer_path,
)
from training_cluster.domain.device import MIB
from training_cluster.ports import Clock, DatasetRegistry, TrainingRecord
from training_cluster.services.curves import Curves
from training_cluster.services.deliveries import Deliveries
from training_cluster.services.devices import DeviceWatch
from training_cluster.services.dispatcher import Dispatcher
from training_cluster.services.health import Health
from training_cluster.services.history import History
from training_cluster.services.jobs import Jobs
from training_cluster.services.log_cap import LogCap
from training_cluster.services.log_follow import LogFollow
from training_cluster.services.metrics import MetricsFollower
from training_cluster.services.model_names import ModelNames
from training_cluster.services.monitoring import Monitoring
from training_cluster.services.news import News
from training_cluster.services.observations import Observations
from training_cluster.services.preparation import Preparer
from training_cluster.services.queue import QueueView
from training_cluster.services.recovery import Recovery
from training_cluster.services.run_records import RunRecords
from training_cluster.services.secret_files import SecretFiles
from training_cluster.services.supervisor import Supervisor
from training_cluster.services.telemetry import Telemetry
from training_cluster.services.tracking import RunFeeder, Tracking
from training_cluster.services.webhooks import Webhooks
from training_cluster.settings import Settings
from training_cluster.store import attempts
from training_cluster.store.database import Database
from training_cluster.store.progress import Limits

log = structlog.get_logger(__name__)

_THREADS = 4


class Daemon:
    """One scheduler over one state directory."""

    def __init__(self, settings: Settings) -> None:
        clock = SystemClock()
        self.settings = settings
        self.database = Database(settings.state_dir / "queue.db")
        self.engine = LocalEngine()
        trainer = choose_trainer(settings)
        datasets = DatasetDirectory(settings.dataset_roots)
        self.devices = DeviceWatch(
            choose_inventory(settings),
            self.database,
            clock,
            policy=busy_policy(settings),
            poll_seconds=settings.devices.poll_seconds,
            deadline_seconds=settings.devices.deadline_seconds,
        )
        self.news = News()
        self.metrics = MetricsFollower(
            self.database,
            trainer,
            clock,
            _limits(settings),
        )
        self.news.lines.on_join = self.metrics.wake
        self.metrics.has_watchers = lambda: self.news.lines.followers > 0
        self.supervisor = Supervisor(self.database, self.engine, trainer, self.metrics, clock)
        preparer = Preparer(
            self.database, datasets, trainer, self.engine, settings.state_dir / "jobs"
        )
        self.dispatcher = Dispatcher(
            self.database,
            self.devices,
            preparer,
            self.engine,
            self.supervisor,
            clock,
            master_ports=_master_ports(settings),
            trackers=frozenset(settings.tracking.backends),
        )
        self.recovery = Recovery(
            self.database, self.engine, self.devices, self.supervisor, self.dispatcher, clock
        )
        queue = QueueView(self.database, self.devices, clock)
        self._add_webhooks(settings, clock)
        jobs = Jobs(
            self.database,
            self.devices,
            ModelNames(settings.model_roots),
            datasets,
            trainer,
            self.dispatcher,
            self.supervisor,
            queue,
            self.webhooks,
            clock,
            trackers=frozenset(settings.tracking.backends),
        )
        self.tracking = _tracking(settings, self.database, trainer, datasets, clock)
        self.news.watchers.append(self.tracking.hear)
        health = Health(self.database, self.devices, self.dispatcher, self.tracking)
        observations = Observations()
        self.news.watchers.append(observations.watch)
        monitoring = Monitoring(
            self.database, self.devices, observations, clock, self.tracking.states
        )
        self.curves = Curves(self.database)
        self.telemetry = Telemetry(
            self.database,
            self.devices,
            clock,
            interval_seconds=settings.metrics.telemetry_seconds,
        )
        self.news.watchers.append(self.telemetry.notice)
        self.services = Services(
            jobs,
            queue,
            self.devices,
            health,
            monitoring,
            webhooks=self.webhooks,
            curves=self.curves,
            history=History(self.database, self.news),
            logs=LogFollow(jobs.get),
        )
        self.log_cap = LogCap(self._attempt_directories, settings.logs.most_mib * MIB)
        self.supervisor.queue = self.dispatcher
        self.devices.on_change = self.dispatcher.wake
        self._scheduling: asyncio.Task[None] | None = None

    def _add_webhooks(self, settings: Settings, clock: Clock) -> None:
        self.notifier = choose_notifier(settings)
        addresses = SecretFiles(settings.state_dir / "secrets", clock)
        self.webhooks = Webhooks(
            self.database,
            addresses,
            self.notifier,
            clock,
            new_secret=new_secret,
            admins=frozenset({"root", user_name(os.getuid())}),
        )
        self.deliveries = Deliveries(
            self.database,
            addresses,
            self.notifier,
            self.devices,
            clock,
            base_url=own_url(settings),
        )
        self.webhooks.on_due = self.deliveries.wake
        self.news.watchers.append(self.deliveries.notice)

    async def start(self, *, after_seconds: float = 0.0) -> None:
        """Read the devices, then adopt what runs and begin to schedule."""
        # for files and datasets; devices and the store have threads of their own
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS))
        self.database.listen(self.news.tell)
        await self.devices.read()
        inventory = self.devices.latest
        log.info(
            inventory.note or "devices read",
            action="daemon.devices",
            source=inventory.source,
            devices=len(inventory.devices),
            fault=inventory.fault,
        )
        if not self.settings.trainer.command and not has_trainer(self.settings):
            log.warning(
                "there is no trainer yet: run `training-cluster trainer install`",
                action="daemon.trainer",
                expected=str(trainer_path(self.settings)),
            )
        await self.engine.open()
        if after_seconds:
            self._scheduling = asyncio.create_task(self._begin(after_seconds))
        else:
            await self._begin(0.0)

    async def _begin(self, after_seconds: float) -> None:
        await asyncio.sleep(after_seconds)
        await self.recovery.run_once()
        await self.webhooks.remove_orphans()
        for loop in (
            self.devices,
            self.metrics,
            self.dispatcher,
            self.deliveries,
            self.telemetry,
            self.log_cap,
        ):
            await loop.start()
        await self.tracking.start()
        _give_back_memory()

    async def _attempt_directories(self) -> list[Path]:
        """Of the attempts that run."""
        active = await self.database.read(attempts.active)
        return [Path(attempt.directory) for attempt in active]

    def close_streams(self) -> None:
        """End every open stream, so that the server can end."""
        self.news.close()
        self.services.logs.close()

    async def stop(self) -> None:
        """Stop scheduling and let go; attempts run on for the next daemon to adopt."""
        if self._scheduling is not None:
            self._scheduling.cancel()
        self.close_streams()
        for loop in (
            self.log_cap,
            self.telemetry,
            self.dispatcher,
            self.metrics,
            self.devices,
            self.deliveries,
        ):
            await loop.stop()
        await self.notifier.close()
        await self.tracking.stop()
        await self.supervisor.close()
        await self.engine.close()
        self.curves.close()
        self.database.close()


def _give_back_memory() -> None:
    """Return to the system what only the start needed: a few MB of what stays for months."""
    gc.collect()
    gc.freeze()
    ctypes.CDLL(None).malloc_trim(0)


def _master_ports(settings: Settings) -> range:
    return range(settings.trainer.master_port_first, settings.trainer.master_port_last + 1)


def _limits(settings: Settings) -> Limits:
    return Limits(
        progress_every_seconds=settings.webhooks.progress_minutes * 60 or None,
        most_bytes=settings.metrics.most_mib * MIB,
    )


def _tracking(
    settings: Settings,
    database: Database,
    record: TrainingRecord,
    datasets: DatasetRegistry,
    clock: Clock,
) -> Tracking:
    records = RunRecords(record, datasets)
    chosen = choose_trackers(settings, clock)
    return Tracking(
        [RunFeeder(database, tracker, records, place, clock) for tracker, place in chosen]
    )
