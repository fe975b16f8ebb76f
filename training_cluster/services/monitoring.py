"""The whole daemon in figures at one moment: what a scrape shows, before it is put into words."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from training_cluster.domain.disk import DiskSpace
from training_cluster.ports import Clock
from training_cluster.scheduling.plan import DeviceStatus
from training_cluster.services.devices import DeviceWatch
from training_cluster.services.disk import DiskWatch
from training_cluster.services.histogram import Distribution
from training_cluster.services.observations import Observations
from training_cluster.store import census
from training_cluster.store.census import Census
from training_cluster.store.database import Database


class TrackerState(Protocol):
    """How a tracker is doing. `since` is Unix seconds, `message` is for people."""

    @property
    def name(self) -> str:
        """The tracker: mlflow, wandb."""
        ...

    @property
    def up(self) -> bool:
        """Whether it took what it was last given."""
        ...

    @property
    def since(self) -> float:
        """Since when that is so."""
        ...

    @property
    def message(self) -> str:
        """What is wrong, or empty."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Everything at `now` (Unix seconds)."""

    now: float
    census: Census
    devices: Sequence[DeviceStatus]
    latency: Mapping[str, Distribution]
    idle_gap: Distribution
    trackers: Sequence[TrackerState]
    disk: DiskSpace
    disk_is_full: bool


class Monitoring:
    """Collects the figures when somebody asks; between two questions it costs nothing."""

    def __init__(
        self,
        database: Database,
        devices: DeviceWatch,
        observations: Observations,
        clock: Clock,
        disk: DiskWatch,
        trackers: Callable[[], Sequence[TrackerState]] = lambda: (),
    ) -> None:
        self._database = database
        self._devices = devices
        self._observations = observations
        self._clock = clock
        self._trackers = trackers
        self._disk = disk

    async def figures(self) -> Figures:
        """The present state. Raises StoreUnavailable."""
        if self._devices.is_steady:  # nobody else reads these again
            await self._devices.read()
        counted, devices = await self._database.read(self._stored)
        return Figures(
            now=self._clock.now(),
            census=counted,
            devices=devices,
            latency=self._observations.latency,
            idle_gap=self._observations.idle_gap,
            trackers=tuple(self._trackers()),
            disk=self._disk.space,
            disk_is_full=self._disk.is_full,
        )

    def _stored(self, connection: sqlite3.Connection) -> tuple[Census, Sequence[DeviceStatus]]:
        return census.take(connection), self._devices.statuses(connection)
