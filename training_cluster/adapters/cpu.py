"""Offers slots on the CPU where no GPU exists, so that jobs still run one after another."""

from __future__ import annotations

import platform
import time
from dataclasses import replace
from pathlib import Path

import psutil

from training_cluster.domain.device import Device, DeviceKind, Inventory

CPUINFO = Path("/proc/cpuinfo")


def cpu_model(cpuinfo: Path = CPUINFO) -> str:
    """The processor's name; where the kernel gives none (many ARM machines), its architecture."""
    try:
        lines = cpuinfo.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    fields = (line.partition(":") for line in lines)
    names = (value.strip() for key, _, value in fields if key.strip() == "model name")
    return next(filter(None, names), f"{platform.machine()} CPU")


class CpuInventory:
    """DeviceInventory of `slots` equal slots; `note` tells people why jobs run on the CPU.

    A slot is permission to run one job, not a share of the machine: memory and load of each are
    those of the whole machine.
    """

    def __init__(self, slots: int, note: str) -> None:
        if slots < 1:
            raise ValueError(f"a CPU inventory needs at least 1 slot, got {slots}")
        self._note = note
        name, memory = cpu_model(), psutil.virtual_memory().total
        psutil.cpu_percent(None)  # load is measured from one call to the next
        self._devices = tuple(
            Device(
                uuid=f"CPU-{index}",
                kind=DeviceKind.CPU,
                index=index,
                name=name,
                total_memory_bytes=memory,
            )
            for index in range(slots)
        )

    def read(self) -> Inventory:
        """The slots, which never change, with what the machine is doing."""
        used, load = psutil.virtual_memory().used, psutil.cpu_percent(None)
        devices = tuple(
            replace(device, used_memory_bytes=used, utilization_percent=load)
            for device in self._devices
        )
        return Inventory(devices, "cpu", time.time(), note=self._note)

    def close(self) -> None:
        """There is nothing to let go of."""
