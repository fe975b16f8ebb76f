"""The daemon asks a process of its own for the GPUs: it may hang, crash or talk nonsense."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from tests import fake_nvml as nvml
from tests.daemon_process import eventually
from tests.fake_nvml import NO_SUCH_PID, FakeNvml
from tests.fake_nvml.reader import InventoryReader, standings
from training_cluster.adapters.nvml import guarded
from training_cluster.adapters.nvml.guarded import GuardedNvml, Worker
from training_cluster.adapters.nvml.wire import from_inventory, to_inventory
from training_cluster.domain.device import Standing

Make = Callable[..., GuardedNvml]


@pytest.fixture
def make(fake_nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes inventories over the fake driver and closes them."""
    for name, value in fake_nvml.environment().items():
        monkeypatch.setenv(name, value)
    made: list[GuardedNvml] = []

    def new(deadline_seconds: float = 5.0, **options: object) -> GuardedNvml:
        made.append(GuardedNvml(deadline_seconds, **options))  # type: ignore[arg-type]
        return made[-1]

    yield new
    for each in made:
        each.close()


def test_a_reading_is_the_same_as_without_the_process_between(
    fake_nvml: FakeNvml, make: Make, nvml_reader: InventoryReader
) -> None:
    fake_nvml.gpus(3)
    fake_nvml.mig(2, 20, 40)
    fake_nvml.process(gpu=0, pid=NO_SUCH_PID, mib=700)
    fake_nvml.fail("nvmlDeviceGetPowerUsage", nvml.UNKNOWN, gpu=1)

    direct, guarded_ = nvml_reader.read(), make().read()

    assert guarded_.devices == direct.devices
    assert (guarded_.note, guarded_.fault) == (direct.note, None)
    assert to_inventory(from_inventory(direct)) == direct


def test_a_crash_in_the_driver_makes_the_devices_faulty_and_the_next_process_sees_them_again(
    fake_nvml: FakeNvml, make: Make
) -> None:
    fake_nvml.gpus(2)
    inventory = make()
    before = inventory.read()
    fake_nvml.crash("nvmlDeviceGetPowerUsage")

    during = inventory.read()

    assert during.fault == "the driver's library crashed (SIGSEGV) while it was read"
    assert [device.uuid for device in during.devices] == [d.uuid for d in before.devices]
    assert standings(during.devices) == [Standing.FAULTY] * 2
    fake_nvml.heal()
    assert standings(inventory.read().devices) == [Standing.FREE] * 2


def test_a_driver_that_hangs_costs_a_deadline_and_no_more(fake_nvml: FakeNvml, make: Make) -> None:
    fake_nvml.gpus(1)
    inventory = make(0.3)
    inventory.read()
    fake_nvml.delay("nvmlDeviceGetMemoryInfo_v2", 600)
    hung = inventory.worker_pid

    began = time.monotonic()
    during = inventory.read()

    assert 0.3 <= time.monotonic() - began < 60
    assert during.fault == "the driver did not answer within 0.3 s"
    assert standings(during.devices) == [Standing.FAULTY]
    assert hung is not None
    assert not psutil.pid_exists(hung), "a process that hangs is ended"
    fake_nvml.heal()
    assert standings(inventory.read().devices) == [Standing.FREE], "as soon as the hang is over"


def test_new_processes_are_started_ever_more_rarely_while_the_driver_hangs(
    fake_nvml: FakeNvml, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_nvml.gpus(1)
    inventory = make(0.05)
    inventory.read()
    fake_nvml.delay("*", 600)
    starts: list[float] = []
    start = guarded._start
    monkeypatch.setattr(guarded, "_start", lambda: (starts.append(time.monotonic()), start())[1])

    until = time.monotonic() + 2.5
    while time.monotonic() < until:
        assert inventory.read().fault == "the driver did not answer within 0.05 s"
        time.sleep(0.01)

    assert 2 <= len(starts) <= 4
    fake_nvml.heal()
    eventually(lambda: inventory.read().fault is None, 10)


def test_processes_that_cannot_even_be_killed_are_not_heaped_up(
    fake_nvml: FakeNvml, make: Make
) -> None:
    """A process inside a stuck driver call survives SIGKILL until the call returns; that cannot be
    made here, so these are only said to survive."""
    fake_nvml.gpus(1)
    fake_nvml.delay("nvmlInitWithFlags", 600)
    left: list[Worker] = []

    is_stuck = True

    def survives(worker: Worker) -> bool:
        if not is_stuck:
            return guarded._kill(worker)
        left.append(worker)
        return False

    inventory = make(0.05, kill=survives)
    fault = str(eventually(lambda: _fault_with(inventory, "cannot end"), 10))
    for _ in range(5):
        inventory.read()
    assert "2 processes hang in it and cannot end" in fault
    assert len(left) == 2

    fake_nvml.heal()
    is_stuck = False
    for worker in left:
        worker.kill()
        worker.wait()
    assert eventually(lambda: inventory.read().fault is None, 10), "the driver let them go"


def _fault_with(inventory: GuardedNvml, words: str) -> str | None:
    fault = inventory.read().fault or ""
    return fault if words in fault else None


def test_a_lost_gpu_keeps_its_name_for_a_process_that_never_saw_it(
    fake_nvml: FakeNvml, make: Make
) -> None:
    fake_nvml.gpus(2)
    inventory = make()
    known = inventory.read().devices
    fake_nvml.lose(1)
    os.kill(inventory.worker_pid or 0, signal.SIGKILL)
    inventory.read()

    devices = inventory.read().devices

    assert [device.uuid for device in devices] == [device.uuid for device in known]
    assert standings(devices) == [Standing.FREE, Standing.FAULTY]


@pytest.mark.parametrize("trouble", ["hang", "crash"])
def test_a_driver_that_hangs_or_crashes_when_it_is_first_asked_is_no_machine_without_gpus(
    fake_nvml: FakeNvml, make: Make, trouble: str
) -> None:
    fake_nvml.gpus(1)
    if trouble == "hang":
        fake_nvml.delay("nvmlInitWithFlags", 600)
    else:
        fake_nvml.crash("nvmlInitWithFlags")

    probe = make(0.3).probe()

    assert (probe.answered, probe.gpu_count, probe.installed) == (False, None, True)


GARBAGE = (
    "nvmlDeviceGetUUID",
    "nvmlDeviceGetMigMode",
    "nvmlDeviceGetMemoryInfo_v2",
    "nvmlDeviceGetUtilizationRates",
    "nvmlDeviceGetTemperatureV",
    "nvmlDeviceGetPowerUsage",
    "nvmlDeviceGetComputeRunningProcesses_v3",
)


@pytest.mark.parametrize("byte", [0xA5, 0x41, 0x7F])
@pytest.mark.parametrize("function", GARBAGE)
def test_a_gpu_that_tells_nonsense_is_faulty_and_no_other(
    fake_nvml: FakeNvml, nvml_reader: InventoryReader, function: str, byte: int
) -> None:
    fake_nvml.gpus(3)
    fake_nvml.process(gpu=1, pid=NO_SUCH_PID, mib=1)
    known = nvml_reader.devices()
    fake_nvml.garble(function, gpu=1, byte=byte)

    devices = nvml_reader.devices()

    seen = standings(devices)
    if function.endswith("Processes_v3") and byte < 0x80:
        assert Standing.FAULTY not in seen, "a pid one cannot see is no fault: it may be the host's"
        return
    assert seen == [Standing.FREE, Standing.FAULTY, Standing.FREE]
    assert [device.uuid for device in devices] == [device.uuid for device in known]


def test_a_count_that_cannot_be_is_a_fault(
    fake_nvml: FakeNvml, nvml_reader: InventoryReader
) -> None:
    fake_nvml.gpus(1)
    nvml_reader.devices()
    fake_nvml.garble("nvmlDeviceGetCount_v2")

    inventory = nvml_reader.read()

    assert "2779096485 GPUs" in (inventory.fault or "")
    assert standings(inventory.devices) == [Standing.FAULTY]


def test_a_gpu_that_is_not_counted_any_more_is_missed_aloud(
    fake_nvml: FakeNvml, nvml_reader: InventoryReader
) -> None:
    fake_nvml.gpus(2)
    known = nvml_reader.devices()
    fake_nvml.gpus(1)

    devices = nvml_reader.devices()

    assert standings(devices) == [Standing.FREE, Standing.FAULTY]
    assert devices[1].uuid == known[1].uuid
    assert devices[1].fault == "the driver does not count this GPU any more"


def test_gpus_that_claim_one_uuid_are_not_told_apart(
    fake_nvml: FakeNvml, nvml_reader: InventoryReader
) -> None:
    fake_nvml.gpus(3)
    fake_nvml.change(2, uuid=fake_nvml.uuid(0))

    devices = nvml_reader.devices()

    assert standings(devices) == [Standing.FAULTY, Standing.FREE]
    assert devices[0].fault == f"2 GPUs call themselves {fake_nvml.uuid(0)}"


def test_the_process_is_small_and_ends_when_it_is_let_go(fake_nvml: FakeNvml, make: Make) -> None:
    fake_nvml.gpus(4)
    inventory = make()
    inventory.read()
    worker = psutil.Process(inventory.worker_pid)
    assert worker.memory_info().rss < 30 << 20

    inventory.close()

    assert not worker.is_running()
