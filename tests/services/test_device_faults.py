"""A device that fails is quarantined and told of once, by whichever daemon sees it; it comes back
when it has proved itself, or when a person says so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.factories import ALICE, a_gpu
from tests.fakes import FakeInventory
from tests.services.household import Household
from training_cluster.domain.device import MIB, DeviceProcess, Standing, unidentified
from training_cluster.domain.errors import StorageFull
from training_cluster.domain.event import ATTEMPT_ENDS
from training_cluster.domain.job import JobState
from training_cluster.ports import Exit
from training_cluster.services.queue import QueueView
from training_cluster.store import events

UNREADABLE = replace(a_gpu(1), fault="memory cannot be read: Unknown Error")
LOST = replace(a_gpu(1), fault="the GPU is lost", needs_reset=True)
ABOUT = {"uuid": a_gpu(1).uuid, "name": a_gpu(1).name}
HELD = replace(a_gpu(0), used_memory_bytes=642 * MIB)


async def told(home: Household) -> list[tuple[str, dict]]:
    found = await home.database.read(lambda c: events.page(c, 0, 1000))
    return [(e.type.value, e.data) for e in found if e.type.value.startswith("device.")]


async def kinds(home: Household) -> list[str]:
    return [kind.removeprefix("device.") for kind, _ in await told(home)]


async def see(home: Household, *devices, after: float = 0.0, times: int = 1) -> None:
    """Readings, each `after` seconds after the one before."""
    home.inventory.devices = devices
    for _ in range(times):
        home.clock.advance(after)
        await home.devices.read()


async def standing(home: Household, index: int = 1) -> Standing:
    statuses = await home.database.read(home.devices.statuses)
    return statuses[index].availability.standing


async def reason(home: Household, index: int = 1) -> str:
    return (await home.database.read(home.devices.statuses))[index].availability.reason


async def test_healthy_devices_are_not_worth_a_word(household):
    await see(household, a_gpu(0), a_gpu(1), times=3)
    assert await told(household) == []


async def test_a_device_is_told_of_when_it_fails_and_when_it_has_proved_itself(household):
    await see(household, a_gpu(0), UNREADABLE, times=3)
    fault = {**ABOUT, "reason": UNREADABLE.fault, "by": None, "cause": "reading"}
    assert await told(household) == [("device.quarantined", fault)]

    await see(household, a_gpu(0), a_gpu(1), after=14, times=3)
    assert await kinds(household) == ["quarantined"], "three readings, but only 28 s"
    assert await standing(household) is Standing.QUARANTINED
    assert await reason(household) == f"quarantined: {UNREADABLE.fault}"
    await see(household, a_gpu(0), a_gpu(1), after=2)

    _, recovered = await told(household)
    about = {**ABOUT, "reason": "it can be read again", "by": None}
    assert recovered == ("device.recovered", about)
    assert await standing(household) is Standing.FREE
    await see(household, a_gpu(0), UNREADABLE)
    assert await kinds(household) == ["quarantined", "recovered", "quarantined"]


async def test_two_good_readings_are_no_proof_however_far_apart(household):
    await see(household, a_gpu(0), UNREADABLE)
    await see(household, a_gpu(0), a_gpu(1), after=100, times=2)
    assert await standing(household) is Standing.QUARANTINED


async def test_one_bad_reading_starts_the_proof_anew(household):
    await see(household, a_gpu(0), UNREADABLE)
    await see(household, a_gpu(0), a_gpu(1), after=20, times=2)
    await see(household, a_gpu(0), UNREADABLE, after=1)
    await see(household, a_gpu(0), a_gpu(1), after=10, times=3)
    assert await standing(household) is Standing.QUARANTINED


async def test_nothing_starts_on_a_quarantined_device_and_what_waits_starts_when_it_is_back(
    household,
):
    await see(household, UNREADABLE)
    await see(household, a_gpu(1))
    waiting = await household.submit()
    assert waiting.job.state is JobState.QUEUED
    assert "quarantined: memory cannot be read" in waiting.waiting.reason.message
    await see(household, a_gpu(1), after=20, times=3)
    await household.dispatcher.run_once()
    await household.reaches(waiting.job.id, JobState.RUNNING)


async def test_a_restarted_daemon_knows_and_does_not_repeat_it(household, tmp_path):
    await see(household, a_gpu(0), UNREADABLE)
    restarted = Household(tmp_path, household.inventory, household.engine, household.clock)
    await see(restarted, a_gpu(0), UNREADABLE)
    assert await kinds(restarted) == ["quarantined"]
    await see(restarted, a_gpu(0), a_gpu(1), after=1)
    assert await standing(restarted) is Standing.QUARANTINED
    await see(restarted, a_gpu(0), a_gpu(1), after=15, times=2)
    assert await kinds(restarted) == ["quarantined", "recovered"]
    await restarted.close()


@pytest.mark.parametrize("before", [LOST, UNREADABLE])
async def test_a_gpu_that_was_lost_comes_back_only_when_a_person_says_so(household, before):
    await see(household, a_gpu(0), before)
    await see(household, a_gpu(0), LOST)
    await see(household, a_gpu(0), a_gpu(1), after=1000, times=10)
    assert await standing(household) is Standing.QUARANTINED

    assert await household.devices.end_quarantine("1", "root")

    assert await standing(household) is Standing.FREE
    *_, (kind, data) = await told(household)
    assert (kind, data["by"]) == ("device.recovered", "root")
    assert not await household.devices.end_quarantine("1", "root"), "once"


async def test_a_device_that_fails_again_and_again_stays_until_a_person_looks(household):
    for _ in range(3):
        await see(household, a_gpu(0), UNREADABLE, after=60)
        await see(household, a_gpu(0), a_gpu(1), after=20, times=3)
    assert await kinds(household) == ["quarantined", "recovered"] * 2 + ["quarantined"]
    await see(household, a_gpu(0), a_gpu(1), after=1000, times=10)
    assert "3 times within an hour" in await reason(household)

    await household.devices.end_quarantine("1", "root")
    await see(household, a_gpu(0), UNREADABLE)
    await see(household, a_gpu(0), a_gpu(1), after=20, times=3)
    assert await standing(household) is Standing.FREE, "after that it starts with a clean sheet"


async def test_failures_hours_apart_are_no_flapping(household):
    for _ in range(5):
        await see(household, a_gpu(0), UNREADABLE, after=3000)
        await see(household, a_gpu(0), a_gpu(1), after=20, times=3)
    assert await standing(household) is Standing.FREE


async def test_a_person_s_quarantine_outlasts_any_number_of_good_readings(household):
    await see(household, a_gpu(0), a_gpu(1))
    await household.devices.quarantine("1", "root", "its fan is loud")
    await see(household, a_gpu(0), a_gpu(1), after=100, times=5)
    assert await reason(household) == "quarantined: its fan is loud"
    ((kind, data),) = await told(household)
    assert (kind, data["by"], data["cause"]) == ("device.quarantined", "root", "person")


async def test_a_fault_that_is_still_there_outlasts_its_release(household):
    await see(household, a_gpu(0), UNREADABLE)
    await household.devices.end_quarantine("1", "root")
    await see(household, a_gpu(0), UNREADABLE)
    assert await kinds(household) == ["quarantined", "recovered", "quarantined"]


async def test_a_gpu_that_failed_before_it_said_who_it_is_is_not_free_when_it_does(household):
    nameless = replace(LOST, uuid=unidentified(1), name="unknown")
    await see(household, a_gpu(0), nameless)
    await see(household, a_gpu(0), a_gpu(1))
    assert await standing(household) is Standing.QUARANTINED
    assert await reason(household) == "quarantined: the GPU is lost"


async def test_a_device_whose_memory_nobody_knows_is_not_to_be_trusted(household):
    await see(household, replace(a_gpu(0), used_memory_bytes=None), a_gpu(1))
    ((kind, data),) = await told(household)
    assert kind == "device.quarantined"
    assert "how much memory" in data["reason"]


async def after_a_job(home: Household, *devices) -> None:
    """A job ran on GPU 0 and has ended; from then on the readings show `devices`."""
    await see(home, a_gpu(0))
    ended: list[object] = []

    def hear(facts):
        home.devices.quarantines.notice(facts)
        ended.extend(fact for fact in facts if getattr(fact, "type", None) in ATTEMPT_ENDS)

    home.database.listen(hear)
    job = (await home.submit()).job
    await home.reaches(job.id, JobState.RUNNING)
    home.inventory.devices = devices
    home.engine.end(home.engine.started[-1].directory, Exit(0))
    await home.reaches(job.id, JobState.COMPLETED)
    await home.until(lambda: ended)  # told of after the commit


async def test_memory_that_is_still_held_a_minute_after_a_job_quarantines_its_device(household):
    await after_a_job(household, HELD)
    await see(household, HELD, after=59)
    assert await standing(household, 0) is Standing.BUSY, "not given away meanwhile"
    assert await told(household) == []

    await see(household, HELD, after=1)

    assert await reason(household, 0) == "quarantined: 642 MiB still held 60 s after job 1 ended"
    await see(household, HELD, after=100, times=5)
    assert await standing(household, 0) is Standing.QUARANTINED
    await see(household, a_gpu(0), after=20, times=3)
    assert await standing(household, 0) is Standing.FREE, "it was given back"


async def test_memory_that_is_given_back_in_time_is_no_reason(household):
    await after_a_job(household, HELD)
    await see(household, HELD, after=30)
    await see(household, a_gpu(0), after=1)
    await see(household, HELD, after=100, times=3)
    assert await told(household) == []
    assert await standing(household, 0) is Standing.BUSY


async def test_somebody_s_process_makes_the_device_busy_and_is_named(household):
    mallory = DeviceProcess(4711, 642 * MIB, "mallory", "python train.py", 30.0)
    await after_a_job(household, replace(HELD, processes=(mallory,)))
    await see(household, replace(HELD, processes=(mallory,)), after=100, times=3)
    assert await told(household) == []
    assert await standing(household, 0) is Standing.BUSY
    assert "mallory" in await reason(household, 0)


async def test_memory_held_after_a_job_is_noticed_by_the_next_daemon_too(household, tmp_path):
    await after_a_job(household, HELD)
    restarted = Household(tmp_path, household.inventory, household.engine, household.clock)
    await see(restarted, HELD, after=1)
    await see(restarted, HELD, after=60)
    assert await standing(restarted, 0) is Standing.QUARANTINED
    await restarted.close()


async def test_a_stale_process_can_be_waved_through_for_a_while(household):
    await see(household, HELD)
    assert await standing(household, 0) is Standing.BUSY
    await household.devices.tolerate("0", "root", "a stale desktop", 700 * MIB, 600)
    assert await standing(household, 0) is Standing.FREE

    await see(household, replace(HELD, used_memory_bytes=701 * MIB))
    assert await standing(household, 0) is Standing.BUSY, "no more than that"
    await see(household, replace(HELD, utilization_percent=90.0))
    assert await standing(household, 0) is Standing.BUSY, "nor somebody who works on it"
    await see(household, HELD, after=601)
    assert await standing(household, 0) is Standing.BUSY, "nor for longer"


async def test_what_is_waved_through_ends_the_quarantine_for_it(household):
    await after_a_job(household, HELD)
    await see(household, HELD, after=60)
    await household.devices.tolerate("0", "root", "known", 700 * MIB, None)
    await see(household, HELD, after=20, times=3)
    assert await standing(household, 0) is Standing.FREE
    assert await household.devices.end_tolerance("0", "root")
    assert await standing(household, 0) is Standing.BUSY


async def test_what_is_shown_of_a_cpu_is_not_as_old_as_the_daemon(tmp_path):
    home = Household(tmp_path, FakeInventory(a_gpu(0), source="cpu"))
    view = QueueView(home.database, home.devices, home.clock)
    await home.devices.read()
    home.inventory.devices = (replace(a_gpu(0), used_memory_bytes=7),)
    home.clock.advance(60)
    (shown,) = (await view.state()).devices
    assert shown.device.used_memory_bytes == 7
    reads = home.inventory.reads
    await view.state()
    assert home.inventory.reads == reads, "but not for every look"
    await home.close()


async def test_what_could_not_be_stored_is_told_at_the_next_reading(household, monkeypatch):
    write = household.database.write

    async def full(change):
        raise StorageFull

    monkeypatch.setattr(household.database, "write", full)
    await see(household, a_gpu(0), UNREADABLE)
    monkeypatch.setattr(household.database, "write", write)
    assert await told(household) == []
    await see(household, a_gpu(0), UNREADABLE)
    assert await kinds(household) == ["quarantined"]


async def test_a_hold_that_ends_gives_its_device_away_at_once(household):
    for index in (0, 1):
        await household.devices.hold(str(index), ALICE, "debugging", 5)
    await household.submit()
    await household.dispatcher.run_once()
    assert household.dispatcher.delay() == 5
    household.clock.advance(5)
    assert household.dispatcher.delay() == 0
    await household.dispatcher.run_once()
    await household.reaches(1, JobState.RUNNING)
    assert household.dispatcher.delay() > 5
