"""The daemon put together: every service over its store, its adapters and its peers."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import structlog

from training_cluster.adapters.local_engine import LocalEngine
from training_cluster.adapters.system_clock import SystemClock
from training_cluster.adapters.webhook import new_secret
from training_cluster.api.services import Services
from training_cluster.daemon import keeping, memory
from training_cluster.daemon.choices import (
    busy_policy,
    choose_inventory,
    choose_notifier,
    choose_trackers,
    choose_trainer,
    hang_rules,
    has_trainer,
    master_ports,
    metric_limits,
    own_url,
    own_user,
    quarantine_rules,
    recovery_policy,
    trainer_path,
)
from training_cluster.daemon.datasets import DatasetParts
from training_cluster.daemon.identity import Identity
from training_cluster.daemon.interactions import interactions
from training_cluster.daemon.models import ModelParts
from training_cluster.domain.device import MIB
from training_cluster.ports import Clock, DatasetRegistry, TrainingRecord
from training_cluster.services.clock_watch import ClockWatch
from training_cluster.services.curves import Curves
from training_cluster.services.deliveries import Deliveries
from training_cluster.services.devices import DeviceWatch
from training_cluster.services.dispatcher import Dispatcher
from training_cluster.services.hang_watch import HangWatch
from training_cluster.services.health import Health
from training_cluster.services.history import History
from training_cluster.services.job_records import JobRecords
from training_cluster.services.jobs import Jobs
from training_cluster.services.log_cap import LogCap
from training_cluster.services.log_follow import LogFollow
from training_cluster.services.loop import Loop
from training_cluster.services.metrics import MetricsFollower
from training_cluster.services.model_names import ModelNames
from training_cluster.services.monitoring import Monitoring
from training_cluster.services.news import News
from training_cluster.services.observations import Observations
from training_cluster.services.preparation import Preparer
from training_cluster.services.queue import QueueView
from training_cluster.services.recovery import Recovery
from training_cluster.services.run_records import RunRecords
from training_cluster.services.saved_checkpoints import SavedCheckpoints
from training_cluster.services.secret_files import SecretFiles
from training_cluster.services.slots import Slots
from training_cluster.services.standings import Standings
from training_cluster.services.supervisor import Supervisor
from training_cluster.services.telemetry import Telemetry
from training_cluster.services.timeline import Timeline
from training_cluster.services.tracking import RunFeeder, Tracking
from training_cluster.services.webhooks import Webhooks
from training_cluster.settings import Settings
from training_cluster.store import attempts
from training_cluster.store.database import Database

log = structlog.get_logger(__name__)

_THREADS = 4
_NET_SECONDS = 1.0  # an inventory keeps the deadline by itself; this is the net below it


class Daemon:
    """One scheduler over one state directory."""

    def __init__(self, settings: Settings) -> None:
        clock = SystemClock()
        self.settings = settings
        ballast = keeping.ballast(settings)
        self.database = Database(settings.state_dir / "queue.db", ballast.give)
        self.disk = keeping.disk_watch(settings, self.database, ballast, clock)
        self.engine = LocalEngine()
        trainer = choose_trainer(settings)
        self.datasets = DatasetParts(settings, self.database, trainer, clock, self.disk)
        datasets = self.datasets.choice
        self.devices = DeviceWatch(
            choose_inventory(settings),
            self.database,
            clock,
            policy=busy_policy(settings),
            poll_seconds=settings.devices.poll_seconds,
            deadline_seconds=settings.devices.deadline_seconds + _NET_SECONDS,
            rules=quarantine_rules(settings),
        )
        self.news = News()
        self.metrics = MetricsFollower(self.database, trainer, clock, metric_limits(settings))
        self.news.lines.on_join = self.metrics.wake
        self.metrics.has_watchers = lambda: self.news.lines.followers > 0
        names = ModelNames(settings.model_roots, settings.state_dir / "jobs")
        self.supervisor = Supervisor(
            *(self.database, self.engine, trainer, self.metrics, clock),
            policy=recovery_policy(settings),
            saving_seconds=settings.pause_grace_seconds,
        )
        jobs_dir = settings.state_dir / "jobs"
        preparer = Preparer(self.database, datasets, trainer, self.engine, jobs_dir, models=names)
        slots = Slots(settings.limits.without_device)
        self.dispatcher = Dispatcher(
            self.database,
            self.devices,
            preparer,
            self.engine,
            self.supervisor,
            clock,
            master_ports=master_ports(settings),
            trackers=frozenset(settings.tracking.backends),
            disk=self.disk,
            slots=slots,
        )
        self.recovery = Recovery(
            self.database, self.engine, self.devices, self.supervisor, self.dispatcher, clock
        )
        queue = QueueView(self.database, self.devices, clock, self.disk, slots)
        self._add_webhooks(settings, clock)
        jobs = Jobs(
            self.database,
            self.devices,
            names,
            datasets,
            trainer,
            self.dispatcher,
            self.supervisor,
            queue,
            self.webhooks,
            clock,
            trackers=frozenset(settings.tracking.backends),
            queued_per_user=settings.limits.queued_per_user,
            disk=self.disk,
        )
        self.tracking = _tracking(settings, self.database, trainer, datasets.folders, clock)
        self.news.watchers += [self.tracking.hear, self.datasets.awaited.notice]
        self.hangs = HangWatch(
            self.database,
            self.engine,
            self.devices,
            self.supervisor,
            clock,
            hang_rules(settings),
        )
        self.news.watchers.append(self.hangs.notice)
        self.clock_watch = ClockWatch(
            self.database, clock, (self.dispatcher.wake, self.deliveries.wake)
        )
        health = Health(
            self.database, self.devices, self.dispatcher, self.tracking, self.disk, self.hangs
        )
        observations = Observations()
        self.news.watchers.append(observations.watch)
        self.news.watchers.append(self.devices.quarantines.notice)
        monitoring = Monitoring(
            self.database, self.devices, observations, clock, self.disk, self.tracking.states
        )
        self.curves = Curves(self.database)
        kept = (settings, self.database, self.addresses, clock, self.datasets)
        self.retention = keeping.retention(*kept)
        self.telemetry = Telemetry(
            self.database,
            self.devices,
            clock,
            interval_seconds=settings.metrics.telemetry_seconds,
        )
        self.news.watchers.append(self.telemetry.notice)
        self.models = ModelParts(settings, self.database, clock, jobs)
        self.news.watchers.append(self.models.hub_tokens.notice)
        self.identity = Identity(settings, self.database, clock)
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
            retention=self.retention,
            tokens=self.identity.tokens,
            sessions=self.identity.sessions,
            records=self.identity.records,
            timeline=Timeline(self.database),
            checkpoints=SavedCheckpoints(self.database, trainer),
            standings=Standings(self.database),
            models=self.models.registry,
            datasets=self.datasets.service,
            uploads=self.datasets.uploads,
            signed_urls=self.identity.signed_urls,
            interactions=interactions(
                settings, self.database, clock, names, self.datasets, jobs, self.disk
            ),
            parts=self.datasets.parts,
            model_jobs=self.models.jobs,
            evaluations=self.models.evaluations,
            base_models=self.models.bases,
        )
        self.records = JobRecords(self.database, jobs_dir)
        self.news.watchers.append(self.records.notice)
        self.log_cap = LogCap(self._attempt_directories, settings.logs.most_mib * MIB)
        self.supervisor.queue = self.dispatcher
        self.datasets.awaited.on_admitted = self.dispatcher.wake
        self.devices.on_change = self.disk.on_change = self.dispatcher.wake
        self._scheduling: asyncio.Task[None] | None = None

    def _add_webhooks(self, settings: Settings, clock: Clock) -> None:
        self.notifier = choose_notifier(settings)
        self.addresses = addresses = SecretFiles(settings.state_dir / "secrets")
        self.webhooks = Webhooks(
            self.database,
            addresses,
            self.notifier,
            clock,
            new_secret=new_secret,
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
        await self.webhooks.remove_orphans()  # before anybody can make webhooks
        await self.models.start()
        await self.identity.start(own_user())
        await self.datasets.sweep()
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
        await self.records.catch_up()
        await self.models.registry.sweep()
        for loop in self._loops:
            await loop.start()
        await self.tracking.start()
        memory.give_back()

    @property
    def _loops(self) -> tuple[Loop, ...]:
        """In the order in which they start; they end the other way round."""
        first = (self.deliveries, self.devices, self.metrics, self.dispatcher, self.telemetry)
        disk = (self.log_cap, self.disk, self.records, self.retention)
        return (*first, *disk, self.hangs, self.clock_watch, *self.datasets.loops)

    async def _attempt_directories(self) -> list[Path]:
        """Of the attempts that run."""
        active = await self.database.read(attempts.active)
        return [Path(attempt.directory) for attempt in active]

    @property
    def is_alive(self) -> bool:
        """Whether jobs are scheduled, or will be once the start is over."""
        waiting = self._scheduling is not None and not self._scheduling.done()
        return waiting or self.dispatcher.alive

    def close_streams(self) -> None:
        """End every open stream, so that the server can end."""
        self.news.close()
        self.services.logs.close()

    async def stop(self) -> None:
        """Stop scheduling and let go; attempts run on for the next daemon to adopt."""
        if self._scheduling is not None:
            self._scheduling.cancel()
        self.close_streams()
        for loop in reversed(self._loops):
            await loop.stop()
        await self.notifier.close()
        await self.tracking.stop()
        await self.supervisor.close()
        await self.engine.close()
        await self.identity.stop()
        self.curves.close()
        self.database.close()


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
