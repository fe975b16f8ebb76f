"""What NvmlInventory makes of MIG, through the real pynvml over a fake driver."""

from __future__ import annotations

import pytest

from tests import fake_nvml as nvml
from tests.fake_nvml import GIB, MIB, FakeNvml
from tests.fake_nvml.reader import InventoryReader, standings
from training_cluster.domain.device import (
    Device,
    DeviceKind,
    Standing,
)

pytest_plugins = ["tests.fake_nvml.fixtures"]

CALLS_ABOUT_A_SLICE = (
    "nvmlDeviceGetHandleByIndex_v2",
    "nvmlDeviceGetUUID",
    "nvmlDeviceGetName",
    "nvmlDeviceGetMigMode",
    "nvmlDeviceGetMemoryInfo_v2",
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetGraphicsRunningProcesses_v3",
    "nvmlDeviceGetMaxMigDeviceCount",
    "nvmlDeviceGetMigDeviceHandleByIndex",
    "nvmlDeviceGetGpuInstanceId",
)


@pytest.mark.parametrize("function", CALLS_ABOUT_A_SLICE)
def test_a_failing_call_leaves_no_slice_of_its_gpu_free(
    fake_nvml: FakeNvml, nvml_reader: InventoryReader, function: str
) -> None:
    fake_nvml.gpus(2)
    fake_nvml.mig(1, 10, 20)
    known = nvml_reader.devices()
    fake_nvml.fail(function, nvml.UNKNOWN, gpu=1)

    devices = nvml_reader.devices()

    assert standings(devices) == [Standing.FREE, Standing.FAULTY, Standing.FAULTY]
    assert [device.uuid for device in devices] == [device.uuid for device in known]


def test_slices_stand_for_their_gpu(fake_nvml: FakeNvml, nvml_reader: InventoryReader) -> None:
    fake_nvml.gpus(2)
    fake_nvml.mig(1, 10, 0, 20)

    whole, small, large = nvml_reader.devices()

    assert (whole.uuid, whole.kind) == (fake_nvml.uuid(0), DeviceKind.GPU)
    assert small == Device(
        uuid=fake_nvml.uuid(1, 0),
        kind=DeviceKind.MIG,
        index=1,
        name="NVIDIA H100 80GB HBM3 MIG 10gb",
        total_memory_bytes=10 * GIB,
        used_memory_bytes=0,
        parent_uuid=fake_nvml.uuid(1),
    )
    assert (large.uuid, large.total_memory_bytes) == (fake_nvml.uuid(1, 2), 20 * GIB)


def test_a_slice_is_busy_with_its_own_processes_only(
    fake_nvml: FakeNvml, nvml_reader: InventoryReader
) -> None:
    fake_nvml.gpus(1)
    fake_nvml.mig(0, 10, 20)
    with fake_nvml.start_trainer(devices=fake_nvml.uuid(0, 1), mib=3000) as process:
        small, large = nvml_reader.devices()
        process.kill()

    assert standings((small, large)) == [Standing.FREE, Standing.BUSY]
    assert (small.used_memory_bytes, small.processes) == (0, ())
    assert large.used_memory_bytes == 3000 * MIB
    assert [user.pid for user in large.processes] == [process.pid]


def test_new_slices_are_seen_without_a_new_session(
    fake_nvml: FakeNvml, nvml_reader: InventoryReader
) -> None:
    fake_nvml.gpus(1)
    assert [device.kind for device in nvml_reader.devices()] == [DeviceKind.GPU]
    fake_nvml.mig(0, 40, 40)
    assert [device.kind for device in nvml_reader.devices()] == [DeviceKind.MIG] * 2


def test_mig_mode_without_slices_is_a_fault_that_names_the_gpu(
    fake_nvml: FakeNvml, nvml_reader: InventoryReader
) -> None:
    fake_nvml.gpus(1)
    fake_nvml.mig(0)

    (device,) = nvml_reader.devices()

    assert device.uuid == fake_nvml.uuid(0)
    assert device.fault == "MIG mode is on and no MIG device has been created"
