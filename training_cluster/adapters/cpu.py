"""Offers slots on the CPU where no GPU exists, so that jobs still run one after another."""

from __future__ import annotations

import platform
import time
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

    A slot is permission to run one job, not a share of the machine: each names all of its memory.
    """

    def __init__(self, slots: int, note: str) -> None:
        if slots < 1:
            raise ValueError(f"a CPU inventory needs at least 1 slot, got {slots}")
        self._note = note
        name, memory = cpu_model(), psutil.virtual_memory().total
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
        """The slots; they never change."""
        return Inventory(self._devices, "cpu", time.time(), note=self._note)
