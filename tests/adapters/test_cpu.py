"""CpuInventory on this machine."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path

import pytest

from training_cluster.adapters.cpu import CpuInventory, cpu_model
from training_cluster.domain.device import BusyPolicy, DeviceKind, Standing, availability


def test_every_slot_is_a_device_that_is_free() -> None:
    inventory = CpuInventory(3, "no NVIDIA driver here").read()

    assert [device.uuid for device in inventory.devices] == ["CPU-0", "CPU-1", "CPU-2"]
    assert [device.index for device in inventory.devices] == [0, 1, 2]
    assert {device.kind for device in inventory.devices} == {DeviceKind.CPU}
    for device in inventory.devices:
        assert availability(device, None, None, BusyPolicy()).standing is Standing.FREE


def test_the_note_says_why_jobs_run_on_the_cpu() -> None:
    inventory = CpuInventory(1, "no NVIDIA driver here").read()

    assert (inventory.source, inventory.note) == ("cpu", "no NVIDIA driver here")
    assert inventory.fault is None


def test_a_slot_names_the_memory_of_the_machine() -> None:
    total = re.search(r"MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    (device,) = CpuInventory(1, "").read().devices

    assert total
    assert device.total_memory_bytes == int(total[1]) * 1024


def test_the_processor_is_named_by_its_model(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel\t\t: 143\nmodel name\t: Xeon: Platinum 8480+\n")

    assert cpu_model(cpuinfo) == "Xeon: Platinum 8480+"


def test_a_reading_says_what_the_machine_is_doing() -> None:
    inventory = CpuInventory(2, "")
    deadline = time.monotonic() + 0.2
    while time.monotonic() < deadline:
        pass
    first, second = inventory.read().devices

    assert first.used_memory_bytes is not None
    assert 0 < first.used_memory_bytes < first.total_memory_bytes
    assert first.utilization_percent is not None
    assert 0 < first.utilization_percent <= 100
    assert first.utilization_percent == second.utilization_percent


def test_a_busy_machine_still_offers_its_slots() -> None:
    (device,) = CpuInventory(1, "").read().devices
    busy = replace(device, used_memory_bytes=device.total_memory_bytes, utilization_percent=100.0)

    assert availability(busy, None, None, BusyPolicy()).standing is Standing.FREE


@pytest.mark.parametrize("text", [None, "", "processor : 0\n", "model name :\n"])
def test_a_processor_without_a_model_name_is_named_by_its_architecture(
    tmp_path: Path, text: str | None
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    if text is not None:
        cpuinfo.write_text(text)

    assert re.fullmatch(r"\w+ CPU", cpu_model(cpuinfo))


def test_a_machine_cannot_have_no_slots() -> None:
    with pytest.raises(ValueError, match="at least 1 slot, got 0"):
        CpuInventory(0, "")
