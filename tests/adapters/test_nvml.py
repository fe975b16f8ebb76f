"""What NvmlInventory reads of healthy GPUs, through the real pynvml over a fake driver."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests import fake_nvml as nvml
from tests.fake_nvml import GIB, MIB, NO_SUCH_PID, FakeNvml
from tests.fake_nvml.library import SONAME
from tests.fake_nvml.reader import InventoryReader, standings
from training_cluster.domain.device import (
    Device,
    DeviceKind,
    Standing,
)

pytest_plugins = ["tests.fake_nvml.fixtures"]


def test_every_gpu_is_read_in_the_order_of_the_bus(
    fake_nvml: FakeNvml, nvml_reader: InventoryReader
) -> None:
    fake_nvml.gpus(4, total_gib=80, name="NVIDIA H100 80GB HBM3")
    fake_nvml.change(2, utilization=37, temperature=61, milliwatts=412_500)

    inventory = nvml_reader.read()

    assert (inventory.source, inventory.note) == ("nvml", "NVIDIA driver 580.65.06")
    assert [device.index for device in inventory.devices] == [0, 1, 2, 3]
    assert inventory.devices[2] == Device(
        uuid=fake_nvml.uuid(2),
        kind=DeviceKind.GPU,
        index=2,
        name="NVIDIA H100 80GB HBM3",
        total_memory_bytes=80 * GIB,
        used_memory_bytes=0,
        utilization_percent=37.0,
        temperature_celsius=61.0,
        power_watts=412.5,
    )


@pytest.mark.parametrize(
    "code", [nvml.NOT_SUPPORTED, nvml.FUNCTION_NOT_FOUND, nvml.ARGUMENT_VERSION_MISMATCH]
)
def test_a_driver_without_the_second_memory_call_is_asked_by_the_first(
    fake_nvml: FakeNvml, nvml_reader: InventoryReader, code: int
) -> None:
    fake_nvml.gpus(1, total_gib=24, reserved_mib=0)
    fake_nvml.process(gpu=0, pid=NO_SUCH_PID, mib=5000)
    fake_nvml.fail("nvmlDeviceGetMemoryInfo_v2", code)

    (device,) = nvml_reader.devices()

    assert (device.total_memory_bytes, device.used_memory_bytes) == (24 * GIB, 5000 * MIB)
    assert device.fault is None


def test_a_figure_that_a_gpu_does_not_have_is_none_and_no_fault(
    fake_nvml: FakeNvml, nvml_reader: InventoryReader
) -> None:
    fake_nvml.gpus(1)
    fake_nvml.change(0, utilization=-1, temperature=-1, milliwatts=-1)
    fake_nvml.fail("nvmlDeviceGetGraphicsRunningProcesses_v3", nvml.NOT_SUPPORTED)
    fake_nvml.fail("nvmlDeviceGetGraphicsRunningProcesses_v2", nvml.NOT_SUPPORTED)

    (device,) = nvml_reader.devices()

    assert device.fault is None
    assert device.utilization_percent is None
    assert device.temperature_celsius is None
    assert device.power_watts is None


def test_an_older_driver_is_asked_by_the_calls_it_knows(
    fake_nvml: FakeNvml, nvml_reader: InventoryReader
) -> None:
    fake_nvml.gpus(1)
    fake_nvml.process(gpu=0, pid=NO_SUCH_PID, mib=300)
    fake_nvml.change(0, temperature=48)
    fake_nvml.fail("nvmlDeviceGetTemperatureV", nvml.FUNCTION_NOT_FOUND)
    fake_nvml.fail("nvmlDeviceGetMigMode", nvml.FUNCTION_NOT_FOUND)
    fake_nvml.fail("nvmlDeviceGetComputeRunningProcesses_v3", nvml.FUNCTION_NOT_FOUND)

    (device,) = nvml_reader.devices()

    assert device.fault is None
    assert device.temperature_celsius == 48
    assert [process.pid for process in device.processes] == [NO_SUCH_PID]


def test_simultaneous_readings_take_turns_and_agree(
    fake_nvml: FakeNvml, nvml_reader: InventoryReader
) -> None:
    fake_nvml.gpus(8)
    fake_nvml.delay("nvmlDeviceGetCount_v2", 0.05)
    started = time.monotonic()

    readings = nvml_reader.read_in_threads(8)

    assert time.monotonic() - started >= 8 * 0.05
    assert len(readings) == 8
    assert {reading.devices for reading in readings} == {nvml_reader.devices()}


def test_a_reading_waits_for_a_hung_driver_and_then_tells_the_truth(
    fake_nvml: FakeNvml, nvml_reader: InventoryReader
) -> None:
    fake_nvml.gpus(2)
    fake_nvml.delay("nvmlDeviceGetMemoryInfo_v2", 0.3, gpu=1)
    started = time.monotonic()

    devices = nvml_reader.devices()

    assert time.monotonic() - started >= 0.3
    assert standings(devices) == [Standing.FREE, Standing.FREE]


def test_a_machine_with_gpus_is_ready(fake_nvml: FakeNvml, nvml_reader: InventoryReader) -> None:
    fake_nvml.gpus(2)

    probe = nvml_reader.probe()

    assert (probe.ready, probe.installed, probe.gpu_count, probe.reason) == (True, True, 2, None)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("nvmlInitWithFlags", "NVML cannot be initialised: Driver Not Loaded (NVML error 9)"),
        ("nvmlDeviceGetCount_v2", "the GPUs cannot be counted: Driver Not Loaded (NVML error 9)"),
    ],
)
def test_an_installed_driver_in_trouble_is_told_from_a_missing_one(
    fake_nvml: FakeNvml, nvml_reader: InventoryReader, function: str, reason: str
) -> None:
    fake_nvml.gpus(2)
    fake_nvml.fail(function, nvml.DRIVER_NOT_LOADED)

    probe = nvml_reader.probe()

    assert (probe.ready, probe.installed, probe.reason) == (False, True, reason)


def test_a_driver_without_gpus_is_not_ready(
    fake_nvml: FakeNvml, nvml_reader: InventoryReader
) -> None:
    probe = nvml_reader.probe()

    assert (probe.ready, probe.installed) == (False, True)
    assert probe.reason == "the NVIDIA driver reports no GPU"


def test_a_machine_without_the_library_says_so(fake_nvml: FakeNvml, tmp_path: Path) -> None:
    (tmp_path / SONAME).touch()  # found first and no library, even where a real one is installed
    fake_nvml.gpus(1)
    environment = {**fake_nvml.environment(), "LD_LIBRARY_PATH": str(tmp_path)}

    with InventoryReader(environment) as reader:
        probe, inventory = reader.probe(), reader.read()

    assert (probe.ready, probe.installed) == (False, False)
    assert "NVML Shared Library Not Found" in (probe.reason or "")
    assert inventory.devices == ()
    assert "NVML Shared Library Not Found" in (inventory.fault or "")


def test_probing_leaves_the_session_of_a_reader_as_it_was(fake_nvml: FakeNvml) -> None:
    fake_nvml.gpus(1)
    with InventoryReader(fake_nvml.environment(), retry_seconds=0) as reader:
        reader.devices()
        reader.probe()
        assert standings(reader.devices()) == [Standing.FREE]

        fake_nvml.lose(0)
        assert standings(reader.devices()) == [Standing.FAULTY]
        reader.probe()
        fake_nvml.heal()
        assert standings(reader.devices()) == [Standing.FREE]
