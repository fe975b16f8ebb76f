"""Samples the devices of running attempts: their load beside the loss, on one axis of time.

Values are named as MLflow names system metrics. A figure that is not known is left out, and no
trouble here ever reaches an attempt.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from training_cluster.domain.device import Device, DeviceKind
from training_cluster.domain.event import Event, EventType
from training_cluster.domain.job import AttemptRef
from training_cluster.domain.metric import LineSource
from training_cluster.ports import Clock
from training_cluster.services.devices import DeviceWatch
from training_cluster.services.loop import Loop
from training_cluster.store import attempts, jobs, metric_lines
from training_cluster.store.database import Database
from training_cluster.store.facts import Fact
from training_cluster.store.metric_lines import NewLine

_FIRST_SECONDS = 2.0
_MEGABYTE = 1_000_000
_BEGINNINGS = (EventType.JOB_STARTED, EventType.ATTEMPT_ADOPTED)


@dataclass(frozen=True, slots=True)
class Running:
    """An attempt that runs, with its devices in the order in which it was given them."""

    ref: AttemptRef
    job_number: int
    device_uuids: tuple[str, ...]


class Telemetry(Loop):
    """Takes a sample of every running attempt each `interval_seconds` (0: never), the first soon
    after an attempt has started; sleeps while nothing runs."""

    name = "telemetry"

    def __init__(
        self, database: Database, devices: DeviceWatch, clock: Clock, *, interval_seconds: float
    ) -> None:
        super().__init__()
        self._database = database
        self._devices = devices
        self._clock = clock
        self._interval_seconds = interval_seconds
        self._first_seconds = min(_FIRST_SECONDS, interval_seconds)
        self._due: float | None = clock.monotonic() if interval_seconds else None

    def delay(self) -> float | None:
        """Seconds to the next sample; None while nothing runs."""
        return None if self._due is None else max(0.0, self._due - self._clock.monotonic())

    def notice(self, facts: Sequence[Fact]) -> None:
        """Learn from committed facts that an attempt has begun."""
        if any(isinstance(fact, Event) and fact.type in _BEGINNINGS for fact in facts):
            self._be_due_in(self._first_seconds)

    def _be_due_in(self, seconds: float) -> None:
        if not self._interval_seconds:
            return
        due = self._clock.monotonic() + seconds
        self._due = due if self._due is None else min(self._due, due)
        self.wake()

    async def run_once(self) -> None:
        """Take a sample when one is due."""
        if self._due is None or self._clock.monotonic() < self._due:
            return
        # set first: trouble waits for the next sample, too
        self._due = self._clock.monotonic() + self._interval_seconds
        running = await self._database.read(_running)
        if not running:
            self._due = None
            return
        inventory = await self._devices.recent(self._first_seconds)
        devices = {device.uuid: device for device in inventory.devices}
        samples = [(one, figures(_of(one, devices))) for one in running]
        now = self._clock.now()
        await self._database.write(lambda connection: _store(connection, samples, now))


def _running(connection: sqlite3.Connection) -> list[Running]:
    return [
        Running(attempt.ref, jobs.find(connection, attempt.ref.job_id).number, attempt.device_uuids)
        for attempt in attempts.active(connection)
        if attempt.started_at is not None
    ]


def _of(running: Running, devices: Mapping[str, Device]) -> list[Device | None]:
    return [devices.get(uuid) for uuid in running.device_uuids]


def _store(
    connection: sqlite3.Connection,
    samples: Iterable[tuple[Running, dict[str, float]]],
    now: float,
) -> None:
    """Add the samples of attempts that have not ended while the devices were read: nothing is
    ever added to a job that has ended."""
    active = {attempt.ref for attempt in attempts.active(connection)}
    source = LineSource.TELEMETRY
    for running, values in samples:
        if values and running.ref in active:
            step = metric_lines.last_step(connection, running.job_number, source) + 1
            line = NewLine(step, now, values)
            metric_lines.append(connection, running.job_number, running.ref, source, [line])


def figures(devices: Sequence[Device | None]) -> dict[str, float]:
    """What is known of an attempt's devices; None stands for one that could not be read.

    CPU slots share one machine, whose figures are there once."""
    found: dict[str, float | None] = {}
    for position, device in enumerate(devices):
        if device is None or device.fault is not None:
            continue
        found.update(_machine(device) if device.kind is DeviceKind.CPU else _gpu(position, device))
    return {name: float(value) for name, value in found.items() if value is not None}


def _machine(device: Device) -> dict[str, float | None]:
    return {
        "system/cpu_utilization_percentage": device.utilization_percent,
        "system/system_memory_usage_megabytes": _megabytes(device),
        "system/system_memory_usage_percentage": _memory_percent(device),
    }


def _gpu(position: int, device: Device) -> dict[str, float | None]:
    name = f"system/gpu_{position}"
    return {
        f"{name}_memory_usage_megabytes": _megabytes(device),
        f"{name}_memory_usage_percentage": _memory_percent(device),
        f"{name}_utilization_percentage": device.utilization_percent,
        f"{name}_power_usage_watts": device.power_watts,
        f"{name}_temperature_celsius": device.temperature_celsius,
    }


def _megabytes(device: Device) -> float | None:
    used = device.used_memory_bytes
    return None if used is None else round(used / _MEGABYTE, 1)


def _memory_percent(device: Device) -> float | None:
    used, total = device.used_memory_bytes, device.total_memory_bytes
    return None if used is None or not total else round(100 * used / total, 1)
