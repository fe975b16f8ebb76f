"""Whom NvmlInventory names as users of a GPU, through the real pynvml over a fake driver."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import fake_nvml as nvml
from tests.fake_nvml import MIB, NO_SUCH_PID, FakeNvml
from tests.fake_nvml.reader import InventoryReader, standings
from training_cluster.domain.device import (
    BusyPolicy,
    DeviceProcess,
    Standing,
    availability,
)

pytest_plugins = ["tests.fake_nvml.fixtures"]


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def test_the_reserve_of_the_driver_does_not_make_an_idle_gpu_busy(
    fake_nvml: FakeNvml, nvml_reader: InventoryReader
) -> None:
    fake_nvml.gpus(1, reserved_mib=900)
    fake_nvml.process(gpu=0, pid=NO_SUCH_PID, mib=100)

    (device,) = nvml_reader.devices()

    assert device.used_memory_bytes == 100 * MIB
    assert standings((device,)) == [Standing.FREE]


def test_a_process_is_named_with_owner_command_and_age(
    fake_nvml: FakeNvml, nvml_reader: InventoryReader, sleeper: subprocess.Popen[bytes]
) -> None:
    fake_nvml.gpus(2)
    fake_nvml.process(gpu=1, pid=sleeper.pid, mib=30_000)

    idle, busy = nvml_reader.devices()

    (process,) = busy.processes
    assert idle.processes == ()
    assert (process.pid, process.memory_bytes) == (sleeper.pid, 30_000 * MIB)
    assert process.owner == Path(f"/proc/{sleeper.pid}").owner()
    assert process.command == "sleep"
    assert process.age_seconds is not None
    assert 0 <= process.age_seconds < 60


def test_the_arguments_of_a_program_stay_private(
    fake_nvml: FakeNvml, nvml_reader: InventoryReader
) -> None:
    fake_nvml.gpus(1)
    program = ["-W", "error", "-m", "http.server", "--bind", "127.0.0.1", "0", "-d", "/s3cret"]
    with subprocess.Popen(
        [sys.executable, *program], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        fake_nvml.process(gpu=0, pid=process.pid, mib=300)
        (device,) = nvml_reader.devices()
        process.kill()

    command = device.processes[0].command
    assert command == f"{Path(sys.executable).name} -m http.server"


def test_a_process_outside_our_pid_namespace_is_listed_without_an_owner(
    fake_nvml: FakeNvml, nvml_reader: InventoryReader
) -> None:
    fake_nvml.gpus(1)
    fake_nvml.process(gpu=0, pid=NO_SUCH_PID, mib=300)

    (device,) = nvml_reader.devices()

    assert device.processes == (DeviceProcess(NO_SUCH_PID, 300 * MIB),)
    assert device.fault is None


def test_a_process_whose_memory_the_driver_does_not_tell_is_listed(
    fake_nvml: FakeNvml, nvml_reader: InventoryReader
) -> None:
    fake_nvml.gpus(1)
    fake_nvml.process(gpu=0, pid=NO_SUCH_PID, mib=-1)

    assert nvml_reader.devices()[0].processes == (DeviceProcess(NO_SUCH_PID, None),)


def test_a_process_that_computes_and_draws_is_listed_once(
    fake_nvml: FakeNvml, nvml_reader: InventoryReader
) -> None:
    fake_nvml.gpus(1)
    fake_nvml.process(gpu=0, pid=NO_SUCH_PID, mib=300, kinds="compute,graphics")
    fake_nvml.process(gpu=0, pid=NO_SUCH_PID + 1, mib=40, kinds="graphics")

    processes = nvml_reader.devices()[0].processes

    assert processes == (
        DeviceProcess(NO_SUCH_PID, 300 * MIB),
        DeviceProcess(NO_SUCH_PID + 1, 40 * MIB),
    )


def test_a_hundred_processes_are_all_listed(
    fake_nvml: FakeNvml, nvml_reader: InventoryReader
) -> None:
    fake_nvml.gpus(1)
    for number in range(100):
        fake_nvml.process(gpu=0, pid=NO_SUCH_PID + number, mib=10)

    assert len(nvml_reader.devices()[0].processes) == 100


def test_not_being_allowed_to_list_processes_is_no_fault(
    fake_nvml: FakeNvml, nvml_reader: InventoryReader
) -> None:
    fake_nvml.gpus(1)
    fake_nvml.process(gpu=0, pid=NO_SUCH_PID, mib=500)
    fake_nvml.fail("nvmlDeviceGetComputeRunningProcesses_v3", nvml.NO_PERMISSION)

    (device,) = nvml_reader.devices()

    assert (device.fault, device.processes) == (None, ())
    assert standings((device,)) == [Standing.BUSY]


def test_memory_without_a_visible_owner_makes_a_gpu_busy(
    fake_nvml: FakeNvml, nvml_reader: InventoryReader
) -> None:
    fake_nvml.gpus(1)
    fake_nvml.hidden_memory(gpu=0, mib=642)

    verdict = availability(nvml_reader.devices()[0], None, None, BusyPolicy())

    assert verdict.standing is Standing.BUSY
    assert verdict.reason == "642 MiB in use by a process that cannot be seen from here"


def test_killing_a_trainer_frees_the_memory_it_used(
    fake_nvml: FakeNvml, nvml_reader: InventoryReader
) -> None:
    fake_nvml.gpus(3)
    with fake_nvml.start_trainer(devices="0,2", mib=40_000) as process:
        assert standings(nvml_reader.devices()) == [Standing.BUSY, Standing.FREE, Standing.BUSY]
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, not yet reaped
        devices = nvml_reader.devices()

    assert standings(devices) == [Standing.FREE] * 3
    assert [device.processes for device in devices] == [(), (), ()]
