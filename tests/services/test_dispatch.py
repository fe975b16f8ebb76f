"""Dispatching and supervising over a real store: what starts, when, and what an end leads to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.factories import ALICE, a_gpu
from tests.services.household import Household
from training_cluster.domain.errors import EngineUnavailable, NoDeviceFree, StoreUnavailable
from training_cluster.domain.job import JobState, Outcome, StopReason
from training_cluster.ports import Exit
from training_cluster.services.jobs import Strategy
from training_cluster.store import attempts


async def test_a_freed_device_goes_to_the_next_job_in_the_same_wake_up(household):
    for _ in range(3):
        await household.submit()
    await household.reaches(2, JobState.RUNNING)
    assert (await household.job(3)).state is JobState.QUEUED
    household.engine.end(household.engine.started[0].directory, Exit(0))
    await household.reaches(1, JobState.COMPLETED)
    await household.reaches(3, JobState.RUNNING)


async def test_a_trainer_is_told_exactly_its_devices(household):
    await household.submit(gpus=2)
    await household.reaches(1, JobState.RUNNING)
    assert household.engine.started[0].environment["devices"] == "GPU-00000000,GPU-00000001"


async def test_placement_rests_on_a_reading_made_after_the_last_change(household):
    await household.submit(gpus=2)
    await household.reaches(1, JobState.RUNNING)
    await household.submit()
    busy = replace(a_gpu(0), used_memory_bytes=20 << 30)
    household.inventory.devices = (busy, replace(a_gpu(1), fault="the GPU is lost"))
    household.clock.advance(5)
    household.engine.end(household.engine.started[0].directory, Exit(0))
    await household.reaches(1, JobState.COMPLETED)
    await household.dispatcher.run_once()
    waiting = await household.jobs.get("2")
    assert waiting.job.state is JobState.QUEUED
    assert "20480 MiB in use" in waiting.waiting.reason.message
    assert "the GPU is lost" in waiting.waiting.reason.message


async def test_a_retry_waits_for_its_delay_and_then_runs_as_a_new_attempt(household):
    await household.submit(max_retries=1)
    await household.reaches(1, JobState.RUNNING)
    household.engine.end(household.engine.started[0].directory, Exit(-9))
    waiting = await household.reaches(1, JobState.QUEUED)
    assert waiting.not_before == household.clock.now() + 10
    await household.dispatcher.run_once()
    assert len(household.engine.started) == 1
    assert household.dispatcher.delay() <= 10
    household.clock.advance(10)
    await household.dispatcher.run_once()
    await household.until(lambda: len(household.engine.started) == 2)
    await household.reaches(1, JobState.RUNNING)
    household.engine.end(household.engine.started[1].directory, Exit(-9))
    failed = await household.reaches(1, JobState.FAILED)
    assert failed.error.code == Outcome.KILLED
    assert failed.attempt_number == 2


async def test_an_attempt_the_engine_refuses_fails_and_frees_its_device(household):
    household.engine.refusal = EngineUnavailable("no fork server", hint="restart the daemon")
    await household.submit()
    failed = await household.reaches(1, JobState.FAILED)
    assert (failed.error.code, failed.error.hint) == ("launch_failed", "restart the daemon")
    assert await household.database.read(attempts.leases) == {}
    household.engine.refusal = None
    await household.submit()
    await household.reaches(2, JobState.RUNNING)


async def test_reject_needs_room_behind_everybody_who_waits(household):
    await household.submit(gpus=1)
    await household.submit(gpus=2)
    with pytest.raises(NoDeviceFree):
        await household.submit(strategy=Strategy.REJECT)
    assert (await household.submit(strategy=Strategy.REJECT, priority=1)).job.state is not (
        JobState.QUEUED
    )


async def test_the_end_of_an_attempt_reaches_the_store_however_long_that_is_away(household):
    await household.submit()
    await household.reaches(1, JobState.RUNNING)
    write, failures = household.database.write, []

    async def failing(change):
        if len(failures) < 1:
            failures.append(change)
            raise StoreUnavailable("not now")
        return await write(change)

    household.database.write = failing
    household.engine.end(household.engine.started[0].directory, Exit(0))
    await household.reaches(1, JobState.COMPLETED)
    assert failures


async def test_the_next_daemon_adopts_what_runs_and_concludes_what_ended(household, tmp_path):
    await household.submit()
    await household.submit()
    await household.reaches(2, JobState.RUNNING)
    first, second = (launch.directory for launch in household.engine.started)
    await household.close()
    household.engine.end(first, Exit(0))
    heir = Household(tmp_path, household.inventory, household.engine, household.clock)
    await heir.devices.read()
    assert await heir.recovery.run_once() == 2
    await heir.reaches(1, JobState.COMPLETED)
    assert (await heir.job(2)).state is JobState.RUNNING
    heir.engine.end(second, Exit(3))
    assert (await heir.reaches(2, JobState.FAILED)).error.code == "trainer_error"
    await heir.close()


@pytest.mark.parametrize("now", [{"fault": "lost"}, {"used_memory_bytes": None}, None])
async def test_what_was_claimed_and_never_started_goes_back_if_its_device_is_in_doubt(
    household, tmp_path, now
):
    await household.submit(gpus=2)
    job = await household.reaches(1, JobState.RUNNING)
    household.engine.endings.clear()  # as if the daemon had died between claim and start
    household.engine.started.clear()
    await household.close()
    inventory, whole = household.inventory, household.inventory.devices
    inventory.devices = whole[:1] if now is None else (whole[0], replace(whole[1], **now))
    heir = Household(tmp_path, inventory, household.engine, household.clock)
    await heir.devices.read()
    await heir.recovery.run_once()
    assert heir.engine.started == []
    assert (await heir.job(job.id)).state is JobState.QUEUED
    inventory.devices = whole
    for _ in range(3):  # it proves itself
        heir.clock.advance(20)
        await heir.devices.read()
    await heir.dispatcher.run_once()
    await heir.reaches(job.id, JobState.RUNNING)
    assert str(heir.engine.started[0].ref) == f"{job.id}/2"
    await heir.close()


async def test_a_stop_is_ordered_again_after_a_restart(household, tmp_path):
    await household.submit()
    job = await household.reaches(1, JobState.RUNNING)
    await household.database.write(
        lambda c: attempts.mark_stopping(c, job, StopReason.CANCELLED, household.clock.now())
    )
    await household.close()
    heir = Household(tmp_path, household.inventory, household.engine, household.clock)
    await heir.devices.read()
    await heir.recovery.run_once()
    await heir.reaches(1, JobState.CANCELLED)
    assert len(heir.engine.stopped) == 1
    await heir.close()


async def test_what_the_log_says_last_is_stored_before_the_job_ends(household):
    await household.submit()
    await household.reaches(1, JobState.RUNNING)
    directory = household.engine.started[0].directory
    (directory / "log").write_bytes(b"1 5.0\n2 4.0\n3 3.")
    await household.metrics.run_once()
    assert (await household.job(1)).metrics == {"train/loss": 4.0}
    with (directory / "log").open("ab") as log:
        log.write(b"5\n")
    household.engine.end(directory, Exit(0))
    done = await household.reaches(1, JobState.COMPLETED)
    assert (done.progress.step, done.metrics) == (3, {"train/loss": 3.5})


async def test_jobs_that_can_never_start_fail_while_every_device_is_busy(household):
    await household.submit(gpus=2)
    await household.reaches(1, JobState.RUNNING)
    first = await household.submit()
    second = await household.submit(depends_on=(first.job.id,))
    await household.submit(depends_on=(second.job.id,))
    await household.jobs.cancel(str(first.job.number), ALICE)
    await household.dispatcher.run_once()
    for number in (3, 4):
        failed = await household.reaches(number, JobState.FAILED)
        assert failed.error.code == Outcome.DEPENDENCY_FAILED
    assert (await household.job(1)).state is JobState.RUNNING
