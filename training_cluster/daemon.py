"""The composition root: settings -> adapters -> services -> app. Nothing else builds the graph."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
import uvicorn
from fastapi import FastAPI

from training_cluster import trainer_environment
from training_cluster.adapters.cpu import CpuInventory
from training_cluster.adapters.dataset_directory import DatasetDirectory
from training_cluster.adapters.llamafactory import LlamaFactoryTrainer
from training_cluster.adapters.local_engine import LocalEngine
from training_cluster.adapters.nvml import NvmlInventory
from training_cluster.adapters.peer_user import KernelPeers
from training_cluster.adapters.system_clock import SystemClock
from training_cluster.api.app import create_app
from training_cluster.api.auth import Access
from training_cluster.api.services import Services
from training_cluster.domain.device import MIB, BusyPolicy, Inventory
from training_cluster.domain.errors import CannotStart, PortInUse
from training_cluster.logs import configure_logging
from training_cluster.ports import DeviceInventory, Trainer
from training_cluster.services.devices import DeviceWatch
from training_cluster.services.dispatcher import Dispatcher
from training_cluster.services.health import Health
from training_cluster.services.jobs import Jobs
from training_cluster.services.metrics import MetricsFollower
from training_cluster.services.model_names import ModelNames
from training_cluster.services.preparation import Preparer
from training_cluster.services.queue import QueueView
from training_cluster.services.recovery import Recovery
from training_cluster.services.supervisor import Supervisor
from training_cluster.settings import Settings
from training_cluster.state_lock import sole_owner
from training_cluster.store.database import Database

log = structlog.get_logger(__name__)

# uvicorn brings the app up before it binds: time for it to fail on a port in use
_BIND_SECONDS = 0.2
_SHUTDOWN_SECONDS = 3
_THREADS = 4


class Daemon:
    """One scheduler over one state directory."""

    def __init__(self, settings: Settings) -> None:
        clock = SystemClock()
        self.settings = settings
        self.database = Database(settings.state_dir / "queue.db")
        self.engine = LocalEngine()
        trainer = _trainer(settings)
        datasets = DatasetDirectory(settings.dataset_roots)
        self.devices = DeviceWatch(
            choose_inventory(settings),
            self.database,
            clock,
            policy=_policy(settings),
            poll_seconds=settings.devices.poll_seconds,
            deadline_seconds=settings.devices.deadline_seconds,
        )
        self.metrics = MetricsFollower(self.database, trainer, clock)
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
        )
        self.recovery = Recovery(
            self.database, self.engine, self.devices, self.supervisor, self.dispatcher, clock
        )
        queue = QueueView(self.database, self.devices, clock)
        jobs = Jobs(
            self.database,
            self.devices,
            ModelNames(settings.model_roots),
            datasets,
            trainer,
            self.dispatcher,
            self.supervisor,
            queue,
            clock,
        )
        health = Health(self.database, self.devices, self.dispatcher)
        self.services = Services(jobs, queue, self.devices, health)
        self.supervisor.queue = self.dispatcher
        self.devices.on_change = self.dispatcher.wake
        self._scheduling: asyncio.Task[None] | None = None

    async def start(self, *, after_seconds: float = 0.0) -> None:
        """Read the devices, then adopt what runs and begin to schedule."""
        # for files and datasets; devices and the store have threads of their own
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS))
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
        for loop in (self.devices, self.metrics, self.dispatcher):
            await loop.start()
        _give_back_memory()

    async def stop(self) -> None:
        """Stop scheduling and let go; attempts run on for the next daemon to adopt."""
        if self._scheduling is not None:
            self._scheduling.cancel()
        for loop in (self.dispatcher, self.metrics, self.devices):
            await loop.stop()
        await self.supervisor.close()
        await self.engine.close()
        self.database.close()


def _give_back_memory() -> None:
    """Return to the system what only the start needed: a few MB of what stays for months."""
    gc.collect()
    gc.freeze()
    ctypes.CDLL(None).malloc_trim(0)


def _trainer(settings: Settings) -> Trainer:
    command = settings.trainer.command or trainer_environment.command(trainer_path(settings))
    return LlamaFactoryTrainer(
        command=command,
        recipe_dir=settings.recipe_dir,
        grace_seconds=settings.grace_seconds,
        daemon_environment=os.environ,
        pass_environment=settings.trainer.pass_environment,
    )


def trainer_path(settings: Settings) -> Path:
    """Where the trainer environment is, or will be."""
    chosen = settings.trainer.environment_dir
    return chosen or trainer_environment.environment_path(settings.data_dir)


def has_trainer(settings: Settings) -> bool:
    """Whether the trainer environment's Python is there; `doctor` looks deeper."""
    return trainer_environment.python(trainer_path(settings)).exists()


def choose_inventory(settings: Settings) -> DeviceInventory:
    """NVML where there are GPUs, CPU slots where there are none.

    A GPU box with a broken driver must not quietly train on its CPU: device nodes tell it from a
    machine that merely has NVIDIA's libraries."""
    kind, slots = settings.devices.kind, settings.cpu_slots
    if kind == "cpu":
        return CpuInventory(slots, f"devices.kind is cpu: {_cpu_slots(slots)}")
    probe = NvmlInventory.probe()
    if kind == "nvml" or probe.gpu_count or (probe.gpu_count is None and _has_gpu_nodes()):
        return NvmlInventory()
    return CpuInventory(slots, f"no GPU here ({probe.reason}): {_cpu_slots(slots)}")


def _has_gpu_nodes() -> bool:
    return any(Path("/dev").glob("nvidia[0-9]*"))


def _cpu_slots(slots: int) -> str:
    return f"jobs run on {slots} CPU slot{'s' if slots > 1 else ''}"


def _policy(settings: Settings) -> BusyPolicy:
    devices = settings.devices
    return BusyPolicy(
        memory_bytes=devices.busy_memory_mib * MIB,
        utilization_percent=devices.busy_utilization_percent,
        excluded=frozenset(devices.exclude),
    )


def _master_ports(settings: Settings) -> range:
    return range(settings.trainer.master_port_first, settings.trainer.master_port_last + 1)


def build_app(settings: Settings, *, bound: bool = False) -> FastAPI:
    """The app with a daemon behind it. `bound` tells that the port is ours already."""

    @asynccontextmanager
    async def running() -> AsyncIterator[Services]:
        if not bound:
            configure_logging(settings.log_format)
        try:
            with sole_owner(settings.state_dir):
                daemon = Daemon(settings)
                try:
                    await daemon.start(after_seconds=0.0 if bound else _BIND_SECONDS)
                    yield daemon.services
                finally:
                    await daemon.stop()
        except CannotStart as error:
            _refuse(error)

    return create_app(running, Access(settings.auth, KernelPeers()))


def _refuse(error: CannotStart) -> None:
    """uvicorn would wrap the one line that matters into a traceback and exit with 3."""
    sys.stderr.write(f"error: {error.message}\n")
    if error.hint:
        sys.stderr.write(f"hint: {error.hint}\n")
    sys.stderr.flush()
    os._exit(1)


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises PortInUse."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise PortInUse(
            f"cannot listen on {host}:{port}: {error.strerror or error}",
            hint="another daemon may run there; give another --port",
        ) from error


def serve(settings: Settings) -> int:
    """Run the daemon until it is told to stop; returns the exit code."""
    configure_logging(settings.log_format)
    try:
        listener = bind(settings.host, settings.port)
    except CannotStart as error:
        _refuse(error)
        return 1
    port = listener.getsockname()[1]
    log.info("listening", action="daemon.listen", url=f"http://{settings.host}:{port}")
    config = uvicorn.Config(
        build_app(settings, bound=True),
        log_config=None,
        access_log=False,
        ws="none",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        h11_max_incomplete_event_size=64 << 10,
    )
    _end_cleanly_on_signals()
    uvicorn.Server(config).run(sockets=[listener])
    return 0


def _end_cleanly_on_signals() -> None:
    """uvicorn shuts down on a signal and then raises it again: by then it means exit status 0."""

    def leave(*_: object) -> None:
        sys.exit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)


def diagnose_devices(settings: Settings) -> Inventory:
    """One reading of the devices, for `doctor`."""
    return choose_inventory(settings).read()


def list_datasets(settings: Settings) -> tuple[str, ...]:
    """The registered dataset versions, for `doctor`."""
    return DatasetDirectory(settings.dataset_roots).versions()
