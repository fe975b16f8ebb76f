"""Doubts figures that cannot be: a driver in trouble does not always say so."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable

from training_cluster.domain.device import Device

MOST_GPUS = 256
_MOST_BYTES = 1 << 50
_TEMPERATURES = (-60.0, 250.0)
_MOST_WATTS = 10_000.0
_LAST_PID = 2**31 - 1
_PREFIXES = ("GPU-", "MIG-")


def check_name(uuid: str) -> str:
    """The UUID itself. Raises ValueError when it is none."""
    if not (uuid.startswith(_PREFIXES) and uuid.isascii() and uuid.isprintable()):
        raise ValueError(f"it calls itself {uuid[:40]!r}, which is no UUID of a GPU")
    return uuid


def nonsense(device: Device) -> str | None:
    """Why the figures of a device cannot be true; None when they can."""
    used, total = device.used_memory_bytes, device.total_memory_bytes
    if used is not None and not 0 <= used <= total <= _MOST_BYTES:
        return f"the driver says that {used} of {total} bytes of memory are in use"
    if used is not None and total == 0:
        return "the driver says that there is no memory"
    load, celsius, watts = (
        device.utilization_percent,
        device.temperature_celsius,
        device.power_watts,
    )
    if load is not None and not 0 <= load <= 100:
        return f"the driver says that the load is {load:g} %"
    if celsius is not None and not _TEMPERATURES[0] <= celsius <= _TEMPERATURES[1]:
        return f"the driver says that the temperature is {celsius:g} °C"
    if watts is not None and not 0 <= watts <= _MOST_WATTS:
        return f"the driver says that the power is {watts:g} W"
    return None


def doubted(device: Device) -> Device:
    """The device, without its figures and with a fault where they cannot be true."""
    reason = nonsense(device)
    return device if reason is None else without_figures(device, device.fault or reason)


def without_figures(device: Device, fault: str, *, needs_reset: bool = False) -> Device:
    """The device with a fault, and without figures of another time."""
    return dataclasses.replace(
        device,
        used_memory_bytes=None,
        utilization_percent=None,
        temperature_celsius=None,
        power_watts=None,
        processes=(),
        fault=fault,
        needs_reset=needs_reset,
    )


def told_apart(devices: Iterable[Device]) -> tuple[Device, ...]:
    """The devices once each: where several claim one UUID, none of them can be trusted."""
    found = list(devices)
    claims = Counter(device.uuid for device in found)
    first = {device.uuid: device for device in reversed(found)}
    return tuple(
        first[uuid]
        if count == 1
        else without_figures(first[uuid], f"{count} GPUs call themselves {uuid}")
        for uuid, count in claims.items()
    )


def check_users(users: dict[int, int | None]) -> dict[int, int | None]:
    """Processes by pid, as they are. Raises ValueError for a pid that no process can have."""
    for pid in users:
        if not 0 < pid <= _LAST_PID:
            raise ValueError(f"a process cannot have the pid {pid}")
    return users
