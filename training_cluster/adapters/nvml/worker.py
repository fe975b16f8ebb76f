"""The process that reads NVML: whatever the driver's library does, it does it here.

Says that it is there, answers each line of stdin by one line on stdout, ends when stdin does.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from dataclasses import asdict
from typing import Any

from training_cluster.adapters.nvml.inventory import NvmlInventory
from training_cluster.adapters.nvml.wire import encode, from_inventory, to_devices


def answer(inventory: NvmlInventory, request: dict[str, Any]) -> dict[str, Any]:
    """What NVML says. A request may bring the devices that an earlier process has seen."""
    if request["op"] == "probe":
        return asdict(NvmlInventory.probe())
    if "seen" in request:
        inventory.remember(to_devices(request["seen"]))
    return from_inventory(inventory.read())


def main() -> None:
    """Serve until the daemon lets go of its end of the pipe."""
    # unbuffered: nothing is left to be written at exit to a daemon that has gone
    inventory, out = NvmlInventory(), sys.stdout.fileno()
    with contextlib.suppress(BrokenPipeError):
        _write(out, encode({}))
        for line in sys.stdin.buffer:
            _write(out, encode(answer(inventory, json.loads(line))))


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
