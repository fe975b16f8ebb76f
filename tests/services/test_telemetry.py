"""Samples of devices: soon after the start, then at intervals, and never after the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.factories import a_gpu
from tests.fakes import FakeInventory
from tests.services.household import Household
from training_cluster.domain.device import MIB, Device, DeviceKind
from training_cluster.domain.errors import StoreUnavailable
from training_cluster.domain.job import JobState
from training_cluster.domain.metric import LineSource, MetricLine
from training_cluster.ports import Exit
from training_cluster.services.telemetry import Telemetry, figures
from training_cluster.store import metric_lines

GPU = replace(
    a_gpu(0, gib=10),
    used_memory_bytes=2560 * MIB,
    utilization_percent=97.0,
    power_watts=540.5,
    temperature_celsius=61.0,
)
CPU = Device(
    uuid="CPU-0", kind=DeviceKind.CPU, index=0, name="a CPU", total_memory_bytes=4000 * MIB
)


class Watched:
    """A household with telemetry as the daemon wires it; `tick` is the loop's next round."""

    def __init__(self, home: Household, interval_seconds: float = 15) -> None:
        self.home = home
        self.samples_at_all = interval_seconds > 0
        self.telemetry = Telemetry(
            home.database, home.devices, home.clock, interval_seconds=interval_seconds
        )
        home.database.listen(self.telemetry.notice)

    async def tick(self, seconds: float = 0) -> None:
        self.home.clock.advance(seconds)
        await self.telemetry.run_once()

    async def start_job(self, **fields: object) -> str:
        job = (await self.home.submit(**fields)).job.id
        await self.home.reaches(job, JobState.RUNNING)
        heard = self.telemetry.delay  # of what is stored it hears a moment later
        await self.home.until(lambda: heard() is not None or not self.samples_at_all)
        return job

    async def end_job(self, key: str) -> None:
        job = await self.home.job(key)
        number = job.attempt_number
        (launch,) = [
            launch
            for launch in self.home.engine.started
            if (launch.ref.job_id, launch.ref.number) == (job.id, number)
        ]
        self.home.engine.end(launch.directory, Exit(0))
        await self.home.reaches(key, JobState.COMPLETED)

    async def samples(self, key: str) -> list[MetricLine]:
        job = await self.home.job(key)
        lines = await self.home.database.read(lambda c: metric_lines.after(c, job.number, 0, 1000))
        assert {line.source for line in lines} <= {LineSource.TELEMETRY}
        return lines


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    home = Household(tmp_path, FakeInventory(GPU, a_gpu(1)))
    await home.devices.read()
    home.inventory.devices = (replace(GPU, used_memory_bytes=0, utilization_percent=0.0), a_gpu(1))
    await home.devices.read()
    yield Watched(home)
    await home.close()


async def test_nothing_is_read_while_nothing_runs(watched):
    await watched.tick()
    reads = watched.home.inventory.reads
    assert watched.telemetry.delay() is None
    await watched.tick(3600)
    assert watched.home.inventory.reads == reads


async def test_a_short_job_has_a_sample_too(watched):
    await watched.tick()
    job = await watched.start_job()
    await watched.tick()
    assert await watched.samples(job) == []
    assert watched.telemetry.delay() == 2.0
    watched.home.inventory.devices = (GPU, a_gpu(1))
    await watched.tick(2)
    (line,) = await watched.samples(job)
    assert (line.attempt_number, line.step, line.time) == (1, 0, watched.home.clock.now())
    assert line.values == {
        "system/gpu_0_memory_usage_megabytes": 2684.4,
        "system/gpu_0_memory_usage_percentage": 25.0,
        "system/gpu_0_utilization_percentage": 97.0,
        "system/gpu_0_power_usage_watts": 540.5,
        "system/gpu_0_temperature_celsius": 61.0,
    }


async def test_samples_follow_at_intervals_until_the_job_ends(watched):
    await watched.tick()
    job = await watched.start_job()
    await watched.tick(2)
    for _ in range(3):
        assert watched.telemetry.delay() == 15
        await watched.tick(14)
        await watched.tick(1)
    assert [line.step for line in await watched.samples(job)] == [0, 1, 2, 3]
    await watched.end_job(job)
    await watched.tick(15)
    assert watched.telemetry.delay() is None
    assert len(await watched.samples(job)) == 4


async def test_each_attempt_gets_its_own_devices_counted_from_zero(watched):
    watched.home.inventory.devices = (a_gpu(0), a_gpu(1))
    first, second = await watched.start_job(), await watched.start_job()
    watched.home.inventory.devices = (GPU, replace(GPU, uuid=a_gpu(1).uuid, power_watts=99.0))
    await watched.tick(2)
    power = "system/gpu_0_power_usage_watts"
    assert [line.values[power] for line in await watched.samples(first)] == [540.5]
    assert [line.values[power] for line in await watched.samples(second)] == [99.0]


async def test_a_job_on_two_devices_has_the_figures_of_both(watched):
    job = await watched.start_job(gpus=2)
    watched.home.inventory.devices = (GPU, replace(GPU, uuid=a_gpu(1).uuid, power_watts=99.0))
    await watched.tick(2)
    (line,) = await watched.samples(job)
    watts = [line.values[f"system/gpu_{n}_power_usage_watts"] for n in (0, 1)]
    assert watts == [540.5, 99.0]


async def test_samples_are_counted_on_by_the_next_attempt_and_the_next_daemon(watched):
    job = await watched.start_job(max_retries=1)
    await watched.tick(2)
    launch = watched.home.engine.started[-1]
    watched.home.engine.end(launch.directory, Exit(-9))
    await watched.home.reaches(job, JobState.QUEUED)
    watched.home.clock.advance(3600)
    await watched.home.dispatcher.run_once()
    await watched.home.reaches(job, JobState.RUNNING)
    again = Watched(watched.home)
    await again.tick()
    lines = await again.samples(job)
    assert [(line.attempt_number, line.step) for line in lines] == [(1, 0), (2, 1)]


async def test_nothing_is_added_to_a_job_that_ends_while_its_devices_are_read(watched):
    """A stream that has said `end` has told everything there will ever be."""
    job = await watched.start_job()
    read = watched.home.devices.recent

    async def slowly(seconds: float):
        await watched.end_job(job)
        return await read(seconds)

    watched.home.devices.recent = slowly
    await watched.tick(2)
    assert await watched.samples(job) == []


async def test_trouble_waits_for_the_next_sample_and_reaches_no_job(watched, monkeypatch):
    job = await watched.start_job()
    write = watched.home.database.write

    async def full(change):
        raise StoreUnavailable("no")

    monkeypatch.setattr(watched.home.database, "write", full)
    with pytest.raises(StoreUnavailable):
        await watched.tick(2)
    monkeypatch.setattr(watched.home.database, "write", write)
    assert watched.telemetry.delay() == 15
    await watched.tick(15)
    assert len(await watched.samples(job)) == 1
    assert (await watched.home.job(job)).state is JobState.RUNNING


async def test_a_driver_that_hangs_holds_up_no_sample_of_others_and_no_job(watched):
    job = await watched.start_job()
    watched.home.inventory.devices = (replace(GPU, fault="the GPU is lost"), a_gpu(1))
    await watched.tick(2)
    assert await watched.samples(job) == []
    watched.home.inventory.devices = (GPU, a_gpu(1))
    await watched.tick(15)
    assert len(await watched.samples(job)) == 1


async def test_telemetry_can_be_switched_off(watched):
    off = Watched(watched.home, interval_seconds=0)
    job = await off.start_job()
    await off.tick(100)
    assert off.telemetry.delay() is None
    assert await off.samples(job) == []


async def test_the_loop_wakes_by_itself_when_a_job_starts(watched):
    watched.telemetry._first_seconds = 0.01
    watched.home.clock.monotonic = asyncio.get_running_loop().time
    await watched.telemetry.start()
    job = await watched.start_job()

    async def has_sample() -> bool:
        return bool(await watched.samples(job))

    await watched.home.until(has_sample)
    await watched.telemetry.stop()


def test_figures_nobody_gives_are_left_out():
    mute = replace(GPU, power_watts=None, used_memory_bytes=None)
    assert set(figures([mute])) == {
        "system/gpu_0_utilization_percentage",
        "system/gpu_0_temperature_celsius",
    }
    assert figures([None, replace(GPU, fault="lost")]) == {}


def test_slots_of_one_machine_have_its_figures_once():
    cpu = replace(CPU, used_memory_bytes=1000 * MIB, utilization_percent=50.0)
    assert figures([cpu, replace(cpu, uuid="CPU-1")]) == {
        "system/cpu_utilization_percentage": 50.0,
        "system/system_memory_usage_megabytes": 1048.6,
        "system/system_memory_usage_percentage": 25.0,
    }
