"""Whether the daemon is ready: can it write, does it schedule, does it see its devices."""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import dataclass

from training_cluster.domain.disk import in_words
from training_cluster.domain.errors import TrainingClusterError
from training_cluster.services.devices import DeviceWatch
from training_cluster.services.disk import DiskWatch
from training_cluster.services.dispatcher import Dispatcher
from training_cluster.services.hang_watch import HangWatch
from training_cluster.services.tracking import TrackerStanding, Tracking
from training_cluster.store.database import Database

_DEADLINE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Check:
    """One part of the daemon: is it well, and if not, what is wrong. Without a part that is not
    `required` the daemon does its work all the same."""

    name: str
    ok: bool
    detail: str
    required: bool = True


class Health:
    """Looks after the parts on which scheduling depends."""

    def __init__(
        self,
        database: Database,
        devices: DeviceWatch,
        dispatcher: Dispatcher,
        tracking: Tracking,
        disk: DiskWatch,
        hangs: HangWatch | None = None,
    ) -> None:
        self._hangs = hangs
        self._disk = disk
        self._tracking = tracking
        self._database = database
        self._devices = devices
        self._dispatcher = dispatcher

    async def checks(self) -> list[Check]:
        """Every part, in the order in which a person would look."""
        parts = [await self._store(), self._room(), self._scheduler(), self._inventory()]
        parts += [self._trainers(self._hangs)] if self._hangs else []
        return [*parts, *(_tracker(state) for state in self._tracking.states())]

    async def _store(self) -> Check:
        try:
            async with asyncio.timeout(_DEADLINE_SECONDS):
                await self._database.write(_touch)
        except (TrainingClusterError, TimeoutError) as error:
            return Check("store", False, str(error) or "the store does not answer")
        return Check("store", True, "writable")

    def _room(self) -> Check:
        free = in_words(self._disk.space.free_bytes)
        if self._disk.is_full:
            return Check("disk", False, f"full: {free} free; submissions are refused")
        return Check("disk", True, f"{free} free")

    def _scheduler(self) -> Check:
        alive = self._dispatcher.alive
        return Check("scheduler", alive, "running" if alive else "not running")

    def _trainers(self, hangs: HangWatch) -> Check:
        still = hangs.still
        if not still:
            return Check("trainers", True, "moving", required=False)
        named = ", ".join(f"{one.job_number} ({one.seconds / 60:.0f} min)" for one in still[:8])
        return Check("trainers", False, f"nothing moves in job {named}", required=False)

    def _inventory(self) -> Check:
        inventory = self._devices.latest
        faults = sum(device.fault is not None for device in inventory.devices)
        detail = inventory.fault or f"{len(inventory.devices)} devices by {inventory.source}"
        if faults and not inventory.fault:
            detail += f", {faults} of them faulty"
        if quarantined := self._devices.quarantines.count:
            detail += f", {quarantined} in quarantine"
        usable = inventory.fault is None and faults < max(len(inventory.devices), 1)
        return Check("devices", usable, detail)


def _tracker(state: TrackerStanding) -> Check:
    return Check(f"tracker {state.name}", state.up, state.message, required=False)


def _touch(connection: sqlite3.Connection) -> None:
    """A write that leaves nothing behind but proves that one can be made."""
    connection.execute("UPDATE job_counts SET jobs = jobs WHERE 0")
