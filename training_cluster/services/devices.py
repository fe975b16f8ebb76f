"""Keeps the latest reading of the devices and judges which of them the queue may use."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import structlog

from training_cluster.domain.device import (
    BusyPolicy,
    Device,
    Hold,
    Inventory,
    Lease,
    Quarantine,
    Tolerance,
    availability,
)
from training_cluster.domain.errors import DeviceNotFound
from training_cluster.domain.principal import Principal
from training_cluster.ports import Clock, DeviceInventory
from training_cluster.scheduling.plan import DeviceStatus
from training_cluster.scheduling.quarantine import QuarantineRules
from training_cluster.services.loop import Loop
from training_cluster.services.quarantine import Quarantines
from training_cluster.store import attempts, holds, quarantines
from training_cluster.store.database import Database

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
        rules: QuarantineRules | None = None,
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
        self._is_closed = False
        self._read_at = float("-inf")
        self.quarantines = Quarantines(database, clock, policy, rules or QuarantineRules())
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
        if not self.is_steady and await self.quarantines.judge(self.latest):
            self.on_change()
        return self.latest

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

    def statuses(self, connection: sqlite3.Connection) -> list[DeviceStatus]:
        """The standing of every device by the latest reading and by what the store says of it."""
        now = self._clock.now()
        leases, held = attempts.leases(connection), holds.active(connection, now)
        quarantined = quarantines.active(connection)
        tolerated = quarantines.tolerated(connection, now)
        return [
            _status(
                device,
                leases.get(device.uuid),
                held.get(device.uuid),
                self._policy,
                quarantined.get(device.uuid),
                tolerated.get(device.uuid),
            )
            for device in self.latest.devices
        ]

    def usable(self, connection: sqlite3.Connection) -> dict[str, Device]:
        """The devices on which somebody who has them can begin, by UUID: whom they are leased to
        and who holds them is not asked."""
        quarantined = quarantines.active(connection)
        tolerated = quarantines.tolerated(connection, self._clock.now())
        statuses = (
            _status(device, None, None, self._policy, quarantined.get(uuid), tolerated.get(uuid))
            for device in self.latest.devices
            for uuid in (device.uuid,)
        )
        return {each.device.uuid: each.device for each in statuses if each.availability.is_free}

    def find(self, key: str) -> Device:
        """A device by UUID or index. Raises DeviceNotFound."""
        for device in self.latest.devices:
            if key in (device.uuid, str(device.index)):
                return device
        raise DeviceNotFound(f"there is no device {key!r}", hint="GET /devices lists them")

    async def hold(self, key: str, by: Principal, reason: str, seconds: float | None) -> Hold:
        """Keep a device out of the queue; a job that has it keeps it. Raises DeviceNotFound, and
        Forbidden for a device that somebody else holds."""
        device, now = self.find(key), self._clock.now()
        hold = Hold(device.uuid, by.name, reason, now, None if seconds is None else now + seconds)

        def change(connection: sqlite3.Connection) -> None:
            _require_own_hold(connection, device, by, now)
            holds.put(connection, hold)

        await self._database.write(change)
        self.on_change()  # the queue has to know when it ends
        return hold

    async def release(self, key: str, by: Principal) -> bool:
        """End a hold; False when there was none. Raises DeviceNotFound, and Forbidden for the
        hold of somebody else."""
        device, now = self.find(key), self._clock.now()

        def change(connection: sqlite3.Connection) -> bool:
            _require_own_hold(connection, device, by, now)
            return holds.delete(connection, device.uuid, by.name, now)

        released = await self._database.write(change)
        self.on_change()
        return released

    async def quarantine(self, key: str, user: str, reason: str) -> Quarantine:
        """Keep a device out of the queue until a person releases it; a job that has it keeps it.
        Raises DeviceNotFound."""
        return await self.quarantines.put(self.find(key), reason, user)

    async def end_quarantine(self, key: str, user: str) -> bool:
        """Give a device back to the queue whatever it was quarantined for; False when it was not.
        Raises DeviceNotFound."""
        ended = await self.quarantines.end(self.find(key), user)
        self.on_change()
        return ended

    async def tolerate(
        self, key: str, user: str, reason: str, memory_bytes: int, seconds: float | None
    ) -> Tolerance:
        """Have a device count as free although others use that much of its memory. Raises
        DeviceNotFound."""
        device, now = self.find(key), self._clock.now()
        until = None if seconds is None else now + seconds
        tolerance = Tolerance(device.uuid, memory_bytes, user, reason, now, until)
        await self.quarantines.tolerate(tolerance)
        self.on_change()
        return tolerance

    async def end_tolerance(self, key: str, user: str) -> bool:
        """Take that back; False when nothing was waved through. Raises DeviceNotFound."""
        return await self.quarantines.end_tolerance(self.find(key), user)

    async def stop(self) -> None:
        """End; a reading that hangs is left behind."""
        await super().stop()
        if self._reading is None and not self._is_closed:
            self._executor.submit(self._source.close)
        self._is_closed = True
        self._executor.shutdown(wait=self._reading is None)


def _require_own_hold(
    connection: sqlite3.Connection, device: Device, by: Principal, now: float
) -> None:
    hold = holds.active(connection, now).get(device.uuid)
    if hold is not None:
        by.require_ownership(hold.user, f"the hold on {device.name} {device.index}")


def _outline(inventory: Inventory) -> tuple[object, ...]:
    """What placement depends on: figures that move all the time are left out or rounded."""
    return tuple(
        (d.uuid, d.fault, _coarse(d.used_memory_bytes), (d.utilization_percent or 0) > 10)
        for d in inventory.devices
    )


def _coarse(memory_bytes: int | None) -> int | None:
    return None if memory_bytes is None else memory_bytes >> 26


def _status(
    device: Device,
    lease: Lease | None,
    hold: Hold | None,
    policy: BusyPolicy,
    quarantine: Quarantine | None,
    tolerance: Tolerance | None,
) -> DeviceStatus:
    standing = availability(device, lease, hold, policy, quarantine, tolerance)
    return DeviceStatus(device, standing, quarantine, tolerance)


def _silent(inventory: Inventory, seconds: float, now: float) -> Inventory:
    fault = f"the driver did not answer within {seconds:g} s"
    devices = tuple(replace(device, fault=fault) for device in inventory.devices)
    return replace(inventory, devices=devices, fault=fault, taken_at=now)
