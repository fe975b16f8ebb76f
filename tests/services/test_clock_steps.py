"""The wall clock is set by hours, forward and back: nothing comes early, nothing comes late."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.factories import ROOT, a_gpu
from tests.fakes import FakeInventory
from tests.services.household import Household
from training_cluster.adapters import system_clock
from training_cluster.adapters.system_clock import SystemClock
from training_cluster.domain.device import Standing
from training_cluster.domain.errors import StorageFull
from training_cluster.domain.job import JobState
from training_cluster.ports import Exit, Receipt
from training_cluster.services.clock_watch import ClockWatch
from training_cluster.services.webhooks import NewWebhook
from training_cluster.store import events, holds

HOURS = 3600.0
STEPS = pytest.mark.parametrize("step", [5 * HOURS, -5 * HOURS], ids=["forward", "back"])


class Lab(Household):
    """A household whose clock is watched."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, FakeInventory(a_gpu(0), source="cpu"))
        self.woken = 0
        self.watch = ClockWatch(self.database, self.clock, (self._wake,))

    def _wake(self) -> None:
        self.woken += 1

    async def step(self, seconds: float) -> None:
        self.clock.step(seconds)
        await self.watch.run_once()

    async def told(self) -> list[dict]:
        found = await self.database.read(lambda c: events.page(c, 0, 1000))
        return [event.data for event in found if event.type.value == "clock.stepped"]


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    made = Lab(tmp_path)
    await made.devices.read()
    yield made
    await made.close()


@STEPS
async def test_a_step_is_told_and_whoever_sleeps_towards_a_time_is_woken(lab: Lab, step: float):
    before = lab.clock.now()
    await lab.step(step)
    assert lab.clock.now() == before + step
    assert await lab.told() == [{"seconds": step}]
    assert lab.woken == 1
    await lab.watch.run_once()
    assert len(await lab.told()) == 1


async def test_slow_corrections_are_followed_without_a_word(lab: Lab):
    for _ in range(100):
        await lab.step(0.5)
    assert await lab.told() == []
    assert lab.clock.now() - lab.clock.monotonic() == pytest.approx(50.0)


@STEPS
async def test_a_retry_comes_after_its_delay_by_the_watch(lab: Lab, step: float):
    job = (await lab.submit(max_retries=1)).job
    await lab.reaches(job.id, JobState.RUNNING)
    lab.engine.end(lab.engine.started[0].directory, Exit(1))
    await lab.reaches(job.id, JobState.QUEUED)
    lab.clock.advance(4)
    lab.clock.step(step)
    await lab.dispatcher.run_once()
    assert (await lab.job(job.id)).state is JobState.QUEUED, "not before the step is noticed"
    await lab.watch.run_once()
    lab.clock.advance(5.9)
    await lab.dispatcher.run_once()
    assert (await lab.job(job.id)).state is JobState.QUEUED
    lab.clock.advance(0.2)
    await lab.dispatcher.run_once()
    await lab.reaches(job.id, JobState.RUNNING)


@STEPS
async def test_a_hold_for_an_hour_is_a_hold_for_an_hour(lab: Lab, step: float):
    await lab.devices.hold("0", ROOT, "a notebook", HOURS)

    async def is_held() -> bool:
        (status,) = await lab.database.read(lab.devices.statuses)
        return status.availability.standing is Standing.HELD

    await lab.step(step)
    lab.clock.advance(HOURS - 1)
    assert await is_held()
    lab.clock.advance(2)
    assert not await is_held()
    assert await lab.database.read(lambda c: holds.active(c, lab.clock.now())) == {}


@STEPS
async def test_a_delivery_is_tried_again_when_it_is_due_by_the_watch(lab: Lab, step: float):
    lab.notifier.answer = lambda _: Receipt(None, "connection refused")
    await lab.webhooks.create(NewWebhook(url="https://receiver.example/hook"), ROOT)
    await lab.reaches((await lab.submit()).job.id, JobState.RUNNING)

    async def tries() -> int:
        for _ in range(4):  # one delivery of a job after the other
            await lab.deliveries.run_once()
            await lab.deliveries.idle()
        return len(lab.notifier.told)

    first = await tries()
    await lab.step(step)
    assert await tries() == first, "not early"
    lab.clock.advance(5.1)
    assert await tries() > first, "not hours late"


@STEPS
async def test_no_duration_that_is_shown_is_negative_and_events_stay_in_order(
    lab: Lab, step: float
):
    job = (await lab.submit()).job
    await lab.reaches(job.id, JobState.RUNNING)
    overview = await lab.jobs.get(job.id)
    lab.clock.advance(60)
    await lab.step(step)
    overview = await lab.jobs.get(job.id)
    assert overview.estimated_finish is None or overview.estimated_finish >= lab.clock.now()
    lab.engine.end(lab.engine.started[0].directory, Exit(0))
    await lab.reaches(job.id, JobState.COMPLETED)
    second = await lab.jobs.get((await lab.submit()).job.id)
    await lab.reaches(second.job.id, JobState.RUNNING)
    finish = (await lab.jobs.get(second.job.id)).estimated_finish
    assert finish is None or finish >= lab.clock.now()
    found = await lab.database.read(lambda c: events.page(c, 0, 1000))
    mine = [event.type.value for event in found if event.job_id == job.id]
    assert mine == ["job.queued", "job.starting", "job.started", "job.completed"]


async def test_what_cannot_be_stored_is_noticed_again(lab: Lab, monkeypatch: pytest.MonkeyPatch):
    write = lab.database.write

    async def full(change: object) -> None:
        await write(change)
        raise StorageFull

    monkeypatch.setattr(lab.database, "write", full)
    before = lab.clock.now()
    with pytest.raises(StorageFull):
        await lab.step(HOURS)
    assert lab.clock.now() == before


def test_the_system_s_clock_goes_on_evenly_until_it_is_told_to_follow(
    monkeypatch: pytest.MonkeyPatch,
):
    wall, watch = time.time(), time.monotonic()
    monkeypatch.setattr(system_clock.time, "time", lambda: wall)
    monkeypatch.setattr(system_clock.time, "monotonic", lambda: watch)
    clock = SystemClock()
    assert clock.now() == pytest.approx(wall)
    watch += 10
    wall += 10 - 5 * HOURS
    assert clock.now() == pytest.approx(wall + 5 * HOURS)
    assert clock.stepped_seconds() == pytest.approx(-5 * HOURS)
    clock.shift(-5 * HOURS)
    assert clock.now() == pytest.approx(wall)
    assert clock.stepped_seconds() == pytest.approx(0.0)
