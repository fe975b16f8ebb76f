"""Reads a `NvmlInventory` in a process of its own, where the fake driver is the one that loads.

The parent writes one word a line, the child answers each with one pickled value.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

from training_cluster.adapters.nvml.inventory import NvmlInventory
from training_cluster.adapters.nvml.wire import NvmlProbe
from training_cluster.domain.device import BusyPolicy, Device, Inventory, Standing, availability


def standings(devices: tuple[Device, ...]) -> list[Standing]:
    """What the queue makes of devices that nobody leased or held, under the default policy."""
    return [availability(device, None, None, BusyPolicy()).standing for device in devices]


class InventoryReader:
    """The parent's side: a child that holds one NvmlInventory, and what it reads."""

    def __init__(self, environment: Mapping[str, str], retry_seconds: float = 60.0) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", __file__, str(retry_seconds)],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.communicate()

    def _ask(self, word: str) -> Any:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{word}\n".encode())
        self.process.stdin.flush()
        return pickle.load(self.process.stdout)

    def read(self) -> Inventory:
        """One reading."""
        inventory = self._ask("read")
        assert isinstance(inventory, Inventory)
        return inventory

    def devices(self) -> tuple[Device, ...]:
        """The devices of one reading that must not have failed as a whole."""
        inventory = self.read()
        assert inventory.fault is None
        return inventory.devices

    def read_in_threads(self, count: int) -> list[Inventory]:
        """As many readings at the same time."""
        return list(self._ask(f"threads {count}"))

    def seconds_per_read(self, count: int) -> float:
        """How long a reading takes, on average over `count`."""
        return float(self._ask(f"time {count}"))

    def probe(self) -> NvmlProbe:
        """What NvmlInventory says about using NVML here."""
        probe = self._ask("probe")
        assert isinstance(probe, NvmlProbe)
        return probe


def _answer(inventory: NvmlInventory, word: str, count: int) -> object:
    if word == "probe":
        return NvmlInventory.probe()
    if word == "threads":
        with ThreadPoolExecutor(count) as pool:
            return [each.result() for each in [pool.submit(inventory.read) for _ in range(count)]]
    if word == "time":
        started = time.perf_counter()
        for _ in range(count):
            inventory.read()
        return (time.perf_counter() - started) / count
    return inventory.read()


def main() -> None:
    """The child's side."""
    inventory = NvmlInventory(retry_seconds=float(sys.argv[1]))
    for line in sys.stdin:
        word, _, count = line.strip().partition(" ")
        pickle.dump(_answer(inventory, word, int(count or 1)), sys.stdout.buffer)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
