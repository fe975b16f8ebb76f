"""Keeps the latest reading of the devices and judges which of them the queue may use."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import structlog

from training_cluster.domain.device import (
    BusyPolicy,
    Device,
    Hold,
    Inventory,
    Lease,
    Standing,
    availability,
)
from training_cluster.domain.errors import DeviceNotFound, TrainingClusterError
from training_cluster.ports import Clock, DeviceInventory
from training_cluster.scheduling.plan import DeviceStatus
from training_cluster.services.loop import Loop
from training_cluster.store import attempts, device_faults, holds
from training_cluster.store.database import Database
from training_cluster.store.device_faults import DeviceHealth

log = structlog.get_logger(__name__)

_FRESH_SECONDS = 1.0


class DeviceWatch(Loop):
    """Reads the inventory on a thread of its own, with a deadline: a driver that hangs makes the
    devices faulty, it never makes the daemon hang."""

    name = "devices"

    def __init__(
        self,
        inventory: DeviceInventory,
        database: Database,
        clock: Clock,
        *,
        policy: BusyPolicy,
        poll_seconds: float,
        deadline_seconds: float,
    ) -> None:
        super().__init__()
        self._source = inventory
        self._database = database
        self._clock = clock
        self._policy = policy
        self._poll_seconds = poll_seconds
        self._deadline_seconds = deadline_seconds
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="inventory")
        self._reading: asyncio.Future[Inventory] | None = None
        self._read_at = float("-inf")
        self._told: frozenset[str] | None = None  # the faulty devices, as the event log has them
        self.latest = Inventory((), "unread", 0.0, fault="the devices have not been read yet")
        self.on_change: Callable[[], None] = lambda: None

    def delay(self) -> float | None:
        """CPU slots do not change by themselves; GPUs do."""
        return None if self.is_steady else self._poll_seconds

    async def run_once(self) -> None:
        """Read the devices; tell whoever listens when what they show has changed."""
        before = _outline(self.latest)
        await self.read()
        if _outline(self.latest) != before:
            self.on_change()

    async def read(self) -> Inventory:
        """A new reading, or the devices as faulty when it does not come in time."""
        loop = asyncio.get_running_loop()
        reading = self._reading
        if reading is None:
            reading = self._reading = loop.run_in_executor(self._executor, self._source.read)
        done, _ = await asyncio.wait({reading}, timeout=self._deadline_seconds)
        if done:
            self.latest, self._reading = reading.result(), None
        else:
            self.latest = _silent(self.latest, self._deadline_seconds, self._clock.now())
            log.error("the driver does not answer", action="devices.deadline")
        self._read_at = self._clock.monotonic()
        await self._tell_faults()
        return self.latest

    async def _tell_faults(self) -> None:
        """Have the event log say which devices have become faulty, or well again."""
        seen = [_health(device, self._policy) for device in self.latest.devices]
        faulty = frozenset(health.uuid for health in seen if health.fault is not None)
        if faulty == self._told or self.is_steady:
            return
        now = self._clock.now()
        try:
            await self._database.write(lambda c: device_faults.record(c, seen, now))
            self._told = faulty
        except TrainingClusterError:
            log.exception("will be told at the next reading", action="devices.faults")

    async def recent(self, seconds: float) -> Inventory:
        """A reading younger than that, of CPU slots too."""
        is_recent = self._clock.monotonic() - self._read_at < seconds
        return self.latest if is_recent else await self.read()

    @property
    def is_steady(self) -> bool:
        """True for devices that only the queue uses: their last reading stays right."""
        return self.latest.source == "cpu"

    @property
    def is_fresh(self) -> bool:
        """True while the last reading is good enough to place jobs by."""
        return self.is_steady or self._clock.monotonic() - self._read_at < _FRESH_SECONDS

    async def fresh(self) -> Inventory:
        """A reading good enough to place jobs by."""
        return self.latest if self.is_fresh else await self.read()

    def expire(self) -> None:
        """Devices have just changed hands: the next placement needs a new reading."""
        self._read_at = float("-inf")

    def judge(self, leases: Mapping[str, Lease], held: Mapping[str, Hold]) -> list[DeviceStatus]:
        """The standing of every device by the latest reading."""
        return [
            DeviceStatus(
                device,
                availability(device, leases.get(device.uuid), held.get(device.uuid), self._policy),
            )
            for device in self.latest.devices
        ]

    def statuses(self, connection: sqlite3.Connection) -> list[DeviceStatus]:
        """The standing of every device, with the leases and holds of the store."""
        held = holds.active(connection, self._clock.now())
        return self.judge(attempts.leases(connection), held)

    def find(self, key: str) -> Device:
        """A device by UUID or index. Raises DeviceNotFound."""
        for device in self.latest.devices:
            if key in (device.uuid, str(device.index)):
                return device
        raise DeviceNotFound(f"there is no device {key!r}", hint="GET /devices lists them")

    async def hold(self, key: str, user: str, reason: str, seconds: float | None) -> Hold:
        """Keep a device out of the queue; a job that has it keeps it. Raises DeviceNotFound."""
        device, now = self.find(key), self._clock.now()
        hold = Hold(device.uuid, user, reason, now, None if seconds is None else now + seconds)
        await self._database.write(lambda connection: holds.put(connection, hold))
        return hold

    async def release(self, key: str, user: str) -> bool:
        """End a hold; False when there was none. Raises DeviceNotFound."""
        device, now = self.find(key), self._clock.now()
        released = await self._database.write(
            lambda connection: holds.delete(connection, device.uuid, user, now)
        )
        self.on_change()
        return released

    async def stop(self) -> None:
        """End; a reading that hangs is left behind."""
        await super().stop()
        self._executor.shutdown(wait=False, cancel_futures=True)


def _outline(inventory: Inventory) -> tuple[object, ...]:
    """What placement depends on: figures that move all the time are left out or rounded."""
    return tuple(
        (d.uuid, d.fault, (d.used_memory_bytes or 0) >> 26, (d.utilization_percent or 0) > 10)
        for d in inventory.devices
    )


def _health(device: Device, policy: BusyPolicy) -> DeviceHealth:
    standing = availability(device, None, None, policy)
    is_faulty = standing.standing is Standing.FAULTY
    return DeviceHealth(device.uuid, device.name, standing.reason if is_faulty else None)


def _silent(inventory: Inventory, seconds: float, now: float) -> Inventory:
    fault = f"the driver did not answer within {seconds:g} s"
    devices = tuple(replace(device, fault=fault) for device in inventory.devices)
    return replace(inventory, devices=devices, fault=fault, taken_at=now)
