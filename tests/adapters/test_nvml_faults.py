"""What NvmlInventory makes of failing GPUs, through the real pynvml over a fake driver."""

from __future__ import annotations

import signal

import pytest

from tests import fake_nvml as nvml
from tests.fake_nvml import CALLS_ABOUT_ONE_GPU, GIB, NO_SUCH_PID, FakeNvml
from tests.fake_nvml.reader import InventoryReader, standings
from training_cluster.domain.device import (
    Standing,
)

pytest_plugins = ["tests.fake_nvml.fixtures"]


def test_a_gpu_that_tells_its_memory_in_no_way_is_faulty(
    fake_nvml: FakeNvml, nvml_reader: InventoryReader
) -> None:
    fake_nvml.gpus(1)
    fake_nvml.fail("nvmlDeviceGetMemoryInfo_v2", nvml.NOT_SUPPORTED)
    fake_nvml.fail("nvmlDeviceGetMemoryInfo", nvml.NOT_SUPPORTED)

    (device,) = nvml_reader.devices()

    assert device.fault == "memory cannot be read: Not Supported (NVML error 3)"
    assert device.used_memory_bytes is None


@pytest.mark.parametrize("function", CALLS_ABOUT_ONE_GPU)
@pytest.mark.parametrize("code", [nvml.UNKNOWN, nvml.TIMEOUT])
def test_a_failing_call_makes_one_gpu_faulty_and_no_other(
    fake_nvml: FakeNvml, nvml_reader: InventoryReader, function: str, code: int
) -> None:
    fake_nvml.gpus(3)
    known = nvml_reader.devices()
    fake_nvml.fail(function, code, gpu=1)

    devices = nvml_reader.devices()

    assert standings(devices) == [Standing.FREE, Standing.FAULTY, Standing.FREE]
    assert [device.uuid for device in devices] == [device.uuid for device in known]
    assert f"(NVML error {code})" in (devices[1].fault or "")


def test_a_lost_gpu_keeps_its_name_and_loses_its_figures(
    fake_nvml: FakeNvml, nvml_reader: InventoryReader
) -> None:
    fake_nvml.gpus(2)
    fake_nvml.process(gpu=1, pid=NO_SUCH_PID, mib=700)
    before = nvml_reader.devices()[1]
    fake_nvml.lose(1)

    healthy, lost = nvml_reader.devices()

    assert healthy.fault is None
    assert (lost.uuid, lost.name) == (before.uuid, before.name)
    assert lost.total_memory_bytes == 80 * GIB
    assert (lost.used_memory_bytes, lost.utilization_percent, lost.processes) == (None, None, ())
    assert lost.fault == "the GPU cannot be identified: GPU is lost (NVML error 15)"


def test_a_gpu_that_was_never_identified_is_still_listed(
    fake_nvml: FakeNvml, nvml_reader: InventoryReader
) -> None:
    fake_nvml.gpus(2)
    fake_nvml.lose(1)

    devices = nvml_reader.devices()

    assert [device.uuid for device in devices] == [fake_nvml.uuid(0), "unknown-1"]
    assert standings(devices) == [Standing.FREE, Standing.FAULTY]


def test_a_gpu_that_came_back_is_free_again_once_the_session_was_renewed(
    fake_nvml: FakeNvml,
) -> None:
    fake_nvml.gpus(1)
    with InventoryReader(fake_nvml.environment(), retry_seconds=0) as reader:
        fake_nvml.lose(0)
        assert standings(reader.devices()) == [Standing.FAULTY]
        fake_nvml.heal()
        assert standings(reader.devices()) == [Standing.FREE]


def test_a_lost_gpu_does_not_renew_the_session_at_every_reading(
    fake_nvml: FakeNvml, nvml_reader: InventoryReader
) -> None:
    fake_nvml.gpus(2)
    fake_nvml.lose(1)
    nvml_reader.devices()
    fake_nvml.fail("nvmlInitWithFlags", nvml.UNKNOWN)

    assert standings(nvml_reader.devices()) == [Standing.FREE, Standing.FAULTY]


def test_no_uuid_is_listed_twice_when_the_gpus_moved_up_after_a_loss(
    fake_nvml: FakeNvml, nvml_reader: InventoryReader
) -> None:
    fake_nvml.gpus(3)
    nvml_reader.devices()
    fake_nvml.change(1, uuid=fake_nvml.uuid(0))
    fake_nvml.lose(0)

    devices = nvml_reader.devices()

    assert [device.uuid for device in devices] == [
        "unknown-0",
        fake_nvml.uuid(1),
        fake_nvml.uuid(2),
    ]


@pytest.mark.parametrize("function", ["nvmlInitWithFlags", "nvmlDeviceGetCount_v2", "*"])
def test_when_nothing_can_be_read_the_gpus_last_seen_are_all_faulty(
    fake_nvml: FakeNvml, nvml_reader: InventoryReader, function: str
) -> None:
    fake_nvml.gpus(2)
    known = nvml_reader.devices()
    fake_nvml.fail(function, nvml.VERSION_MISMATCH)
    fake_nvml.reload_driver()
    nvml_reader.read()

    inventory = nvml_reader.read()

    assert inventory.fault
    assert "mismatch" in inventory.fault
    assert [device.uuid for device in inventory.devices] == [device.uuid for device in known]
    assert standings(inventory.devices) == [Standing.FAULTY, Standing.FAULTY]


def test_a_driver_that_never_started_is_a_fault_without_devices(
    fake_nvml: FakeNvml, nvml_reader: InventoryReader
) -> None:
    fake_nvml.gpus(2)
    fake_nvml.fail("nvmlInitWithFlags", nvml.DRIVER_NOT_LOADED)

    inventory = nvml_reader.read()

    assert inventory.devices == ()
    assert inventory.fault == "the GPUs cannot be read: Driver Not Loaded (NVML error 9)"


def test_a_reloaded_driver_is_read_afresh_by_the_second_reading(
    fake_nvml: FakeNvml, nvml_reader: InventoryReader
) -> None:
    fake_nvml.gpus(1)
    nvml_reader.devices()
    fake_nvml.reload_driver("595.10")
    fake_nvml.change(0, uuid="GPU-replaced", name="NVIDIA B200")

    during, after = nvml_reader.read(), nvml_reader.read()

    assert "Uninitialized" in (during.fault or "")
    assert after.note == "NVIDIA driver 595.10"
    assert [(device.uuid, device.name) for device in after.devices] == [
        ("GPU-replaced", "NVIDIA B200")
    ]


def test_a_device_call_that_finds_nvml_uninitialised_renews_the_session(
    fake_nvml: FakeNvml, nvml_reader: InventoryReader
) -> None:
    fake_nvml.gpus(1)
    fake_nvml.fail("nvmlDeviceGetMemoryInfo_v2", nvml.UNINITIALIZED)
    assert standings(nvml_reader.devices()) == [Standing.FAULTY]
    fake_nvml.driver = "595.10"
    fake_nvml.heal()

    inventory = nvml_reader.read()

    assert inventory.note == "NVIDIA driver 595.10"
    assert standings(inventory.devices) == [Standing.FREE]


def test_a_crash_in_the_driver_takes_the_reading_process_with_it(
    fake_nvml: FakeNvml, nvml_reader: InventoryReader
) -> None:
    fake_nvml.gpus(1)
    fake_nvml.crash("nvmlDeviceGetPowerUsage")

    with pytest.raises(EOFError):
        nvml_reader.read()

    assert nvml_reader.process.wait(timeout=30) == -signal.SIGSEGV
