"""What the daemon and the process that reads NVML say to each other: one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from training_cluster.domain.device import Device, DeviceKind, DeviceProcess, Inventory


@dataclass(frozen=True, slots=True)
class NvmlProbe:
    """Whether NVML can be used here. `installed` tells a machine without NVIDIA's library from one
    whose driver is in trouble; `gpu_count` is None where NVML does not tell; `reason` says why it
    is not `ready`; `answered` is False where it hung or crashed."""

    installed: bool
    gpu_count: int | None = None
    reason: str | None = None
    answered: bool = True

    @property
    def ready(self) -> bool:
        """True when NVML answers and reports at least one GPU."""
        return self.reason is None


def encode(document: object) -> bytes:
    """A line of the pipe."""
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def from_inventory(inventory: Inventory) -> dict[str, Any]:
    """An inventory as a document."""
    return {**_fields(inventory), "devices": from_devices(inventory.devices)}


def to_inventory(document: dict[str, Any]) -> Inventory:
    """Back again. Raises TypeError, ValueError or LookupError for anything else."""
    return Inventory(**{**document, "devices": to_devices(document["devices"])})


def from_devices(devices: Iterable[Device]) -> list[dict[str, Any]]:
    """Devices as documents."""
    return [
        {**_fields(device), "processes": [_fields(process) for process in device.processes]}
        for device in devices
    ]


def to_devices(documents: Iterable[dict[str, Any]]) -> tuple[Device, ...]:
    """Back again. Raises TypeError, ValueError or LookupError for anything else."""
    return tuple(_device(document) for document in documents)


def _device(document: dict[str, Any]) -> Device:
    processes = tuple(DeviceProcess(**each) for each in document["processes"])
    kind = DeviceKind(document["kind"])
    return Device(**{**document, "kind": kind, "processes": processes})


def _fields(value: Device | DeviceProcess | Inventory) -> dict[str, Any]:
    """What dataclasses.asdict says, in a tenth of the time: a reading is waited for."""
    return {name: getattr(value, name) for name in value.__slots__}
