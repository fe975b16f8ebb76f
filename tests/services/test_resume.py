"""Pause, resume, retry and loss: what becomes of a job, and where its next attempt begins."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tests.factories import ALICE, a_gpu
from tests.fakes import FakeInventory
from tests.services.household import Household
from training_cluster.domain.errors import Forbidden, JobAlreadyFinished, WrongState
from training_cluster.domain.event import EventType
from training_cluster.domain.job import JobState, Outcome, StopReason
from training_cluster.domain.principal import Principal, Role, Via
from training_cluster.ports import Exit, Launch
from training_cluster.services.job_control import Begin
from training_cluster.store import attempts, events, metric_lines

BOB = Principal("bob", Role.SUBMITTER, Via.LOCAL)
LOST = Exit(None)


@pytest.fixture
async def household(household: Household) -> Household:
    """One whose dispatcher goes by itself."""
    await household.dispatcher.start()
    return household


async def running(household: Household, **fields: object) -> Launch:
    """Job 1, running."""
    await household.submit(**fields)
    await household.reaches(1, JobState.RUNNING)
    return household.engine.running[-1]


def save(launch: Launch, step: int) -> None:
    (launch.directory / f"checkpoint-{step}").touch()


def log(launch: Launch, *steps: int) -> None:
    with (launch.directory / "log").open("a") as file:
        file.writelines(f"{step} {100 - step}\n" for step in steps)


async def logged(household: Household) -> list[tuple[int, int]]:
    """Attempt and step of every line of job 1 that holds."""
    lines = await household.database.read(lambda c: metric_lines.after(c, 1, 0, 1000))
    return [(line.attempt_number, line.step) for line in lines]


async def told(household: Household, kind: EventType) -> list[dict[str, object]]:
    found = await household.database.read(lambda c: events.page(c, 0, 1000, kind=kind))
    return [event.data for event in found]


async def latest(household: Household):
    found = await household.database.read(lambda c: attempts.of_job(c, 1))
    return found[-1]


async def lose(household: Household, launch: Launch) -> None:
    """Have an attempt vanish, and wait until its job has moved on."""
    number = launch.ref.number
    household.engine.end(launch.directory, LOST)

    def ended(c: sqlite3.Connection) -> bool:
        return attempts.of_job(c, 1)[number - 1].ended_at is not None

    await household.until(lambda: household.database.read(ended))


async def test_a_paused_job_frees_its_device_and_goes_on_from_where_it_saved(household):
    launch = await running(household)
    save(launch, 40)
    assert (await household.jobs.pause("1", ALICE)).job.state is JobState.STOPPING
    await household.reaches(1, JobState.PAUSED)
    assert await household.database.read(attempts.leases) == {}
    assert (await household.jobs.resume("1", ALICE)).step == 40
    await household.reaches(1, JobState.RUNNING)
    again = household.engine.started[-1]
    assert (again.ref.number, again.environment["from"]) == (2, "40")
    assert (await latest(household)).resumed_from.path == launch.directory / "checkpoint-40"
    household.engine.end(again.directory, Exit(0))
    await household.reaches(1, JobState.COMPLETED)


async def test_a_queued_job_is_paused_at_once_and_comes_back_to_its_old_place(household):
    for _ in range(4):
        await household.submit()
    await household.reaches(2, JobState.RUNNING)
    assert (await household.jobs.pause("3", ALICE)).job.state is JobState.PAUSED
    assert (await household.jobs.pause("3", ALICE)).job.state is JobState.PAUSED
    assert (await household.jobs.resume("3", ALICE)).step == 0
    household.engine.end(household.engine.running[0].directory, Exit(0))
    await household.reaches(3, JobState.RUNNING)
    assert (await household.job(4)).state is JobState.QUEUED


async def test_a_resume_may_change_the_priority(household):
    for _ in range(4):
        await household.submit()
    await household.reaches(2, JobState.RUNNING)
    await household.jobs.pause("4", ALICE)
    await household.jobs.resume("4", ALICE, 7)
    household.engine.end(household.engine.running[0].directory, Exit(0))
    job = await household.reaches(4, JobState.RUNNING)
    assert (job.priority, job.spec.priority) == (7, 7)


async def test_a_job_that_saved_nothing_is_paused_all_the_same_and_says_so(household):
    await running(household)
    await household.jobs.pause("1", ALICE)
    await household.reaches(1, JobState.PAUSED)
    [warning] = await told(household, EventType.JOB_WARNING)
    assert "nothing was saved: it goes on from the start" in str(warning["message"])
    assert (await household.jobs.resume("1", ALICE)).step == 0
    await household.reaches(1, JobState.RUNNING)
    assert "from" not in household.engine.started[-1].environment


async def test_a_job_that_ends_before_the_pause_reaches_it_is_completed(household):
    launch = await running(household)
    household.engine.stop = _nothing  # the trainer does its last step meanwhile
    await household.jobs.pause("1", ALICE)
    household.engine.end(launch.directory, Exit(0))
    assert (await household.reaches(1, JobState.COMPLETED)).finished_at is not None


async def _nothing(*_: object) -> None: ...


async def test_a_job_that_is_being_paused_can_be_cancelled(household):
    launch = await running(household)
    stop, household.engine.stop = household.engine.stop, _nothing
    await household.jobs.pause("1", ALICE)
    with pytest.raises(WrongState, match="only a paused job can be resumed"):
        await household.jobs.resume("1", ALICE)
    household.engine.stop = stop
    await household.jobs.cancel("1", ALICE)
    await household.reaches(1, JobState.CANCELLED)
    assert household.engine.stopped[-1] == (str(launch.directory), StopReason.CANCELLED)


async def test_a_cancellation_counts_although_the_pause_came_first_at_the_runner(household):
    launch = await running(household)
    household.engine.stop = _nothing
    await household.jobs.pause("1", ALICE)
    await household.jobs.cancel("1", ALICE)
    household.engine.end(launch.directory, Exit(0, stop_reason=StopReason.PAUSED))
    await household.reaches(1, JobState.CANCELLED)


async def test_a_job_that_is_being_cancelled_cannot_be_paused(household):
    await running(household)
    household.engine.stop = _nothing
    await household.jobs.cancel("1", ALICE)
    with pytest.raises(WrongState, match="being stopped"):
        await household.jobs.pause("1", ALICE)


async def test_a_runner_that_dies_while_it_pauses_has_paused(household):
    launch = await running(household)
    save(launch, 20)
    household.engine.stop = _nothing
    await household.jobs.pause("1", ALICE)
    household.engine.end(launch.directory, LOST)
    await household.reaches(1, JobState.PAUSED)
    assert (await household.jobs.resume("1", ALICE)).step == 20


async def test_a_paused_job_can_be_cancelled_and_tried_again(household):
    launch = await running(household)
    save(launch, 30)
    await household.jobs.pause("1", ALICE)
    await household.reaches(1, JobState.PAUSED)
    assert (await household.jobs.cancel("1", ALICE)).state is JobState.CANCELLED
    assert (await household.jobs.retry("1", ALICE)).step == 30
    again = await household.reaches(1, JobState.RUNNING)
    assert (again.finished_at, again.error) == (None, None)


async def test_what_is_logged_behind_the_checkpoint_of_a_pause_is_never_told(household):
    launch = await running(household)
    log(launch, 1, 2)
    await household.metrics.run_once()
    household.engine.stop = _nothing
    await household.jobs.pause("1", ALICE)
    log(launch, 3, 4)  # the checkpoint is written in the middle of step 4, which is then finished
    save(launch, 3)
    await household.metrics.run_once()
    household.engine.end(launch.directory, Exit(0, stop_reason=StopReason.PAUSED))
    paused = await household.reaches(1, JobState.PAUSED)
    assert (paused.progress.step, paused.progress.total_steps) == (3, 10)
    assert await logged(household) == [(1, 1), (1, 2), (1, 3)]
    await household.jobs.resume("1", ALICE)
    await household.reaches(1, JobState.RUNNING)
    log(household.engine.started[-1], 4, 5)
    await household.metrics.run_once()
    assert await logged(household) == [(1, 1), (1, 2), (1, 3), (2, 4), (2, 5)]


async def test_what_an_ended_pause_held_back_is_told_if_the_job_is_not_paused_after_all(household):
    launch = await running(household)
    household.engine.stop = _nothing
    await household.jobs.pause("1", ALICE)
    log(launch, 1, 2)
    household.engine.end(launch.directory, Exit(0))
    await household.reaches(1, JobState.COMPLETED)
    assert await logged(household) == [(1, 1), (1, 2)]


async def test_a_lost_attempt_goes_on_at_once_from_its_last_checkpoint(household):
    launch = await running(household)
    log(launch, 1, 2, 3)
    save(launch, 2)
    await lose(household, launch)
    await household.reaches(1, JobState.RUNNING)
    again = household.engine.started[-1]
    assert (again.ref.number, again.environment["from"]) == (2, "2")
    log(again, 3, 4)

    async def each_step_once() -> bool:
        await household.metrics.run_once()
        return await logged(household) == [(1, 1), (1, 2), (2, 3), (2, 4)]

    await household.until(each_step_once)


async def test_a_job_that_is_lost_again_and_again_without_progress_fails(household):
    await running(household)
    for number in range(1, 5):
        await household.until(lambda n=number: household.engine.started[-1].ref.number == n)
        await household.reaches(1, JobState.RUNNING)
        await lose(household, household.engine.started[-1])
        household.clock.advance(60)
        household.dispatcher.wake()
    failed = await household.reaches(1, JobState.FAILED)
    assert failed.error.code == "lost"
    assert "lost 4 times in a row without a new checkpoint" in failed.error.message
    assert len(household.engine.started) == 4


async def test_an_automatic_retry_goes_on_from_the_checkpoint(household):
    launch = await running(household, max_retries=1)
    save(launch, 900)
    household.engine.end(launch.directory, Exit(1))
    await household.reaches(1, JobState.QUEUED)
    household.clock.advance(11)
    household.dispatcher.wake()
    await household.reaches(1, JobState.RUNNING)
    assert household.engine.started[-1].environment["from"] == "900"


async def test_a_checkpoint_on_which_an_attempt_choked_is_not_tried_again(household):
    launch = await running(household, max_retries=2)
    save(launch, 10)
    save(launch, 20)
    log(launch, 1)
    for begins in ("20", "10"):
        household.engine.end(household.engine.started[-1].directory, Exit(1))
        await household.reaches(1, JobState.QUEUED)
        household.clock.advance(60)
        household.dispatcher.wake()
        await household.reaches(1, JobState.RUNNING)
        assert household.engine.started[-1].environment["from"] == begins
    [warning] = await told(household, EventType.JOB_WARNING)
    assert "step 10, the last complete checkpoint before it" in str(warning["message"])


async def test_a_checkpoint_that_has_gone_meanwhile_is_told_of(household):
    launch = await running(household)
    save(launch, 50)
    await household.jobs.pause("1", ALICE)
    await household.reaches(1, JobState.PAUSED)
    (launch.directory / "checkpoint-50").unlink()
    await household.jobs.resume("1", ALICE)
    await household.reaches(1, JobState.RUNNING)
    assert "from" not in household.engine.started[-1].environment
    [warning] = await told(household, EventType.JOB_WARNING)
    assert "goes on from the start" in str(warning["message"])
    household.engine.end(household.engine.started[-1].directory, Exit(1))
    await household.reaches(1, JobState.FAILED)
    assert (await household.jobs.retry("1", ALICE)).step == 0, "the store knows by now"


async def test_a_failed_job_is_tried_again_with_all_its_retries(household):
    launch = await running(household, max_retries=1)
    for number in (1, 2):
        await household.until(lambda n=number: household.engine.started[-1].ref.number == n)
        household.engine.end(household.engine.started[-1].directory, Exit(1))
        await household.until(lambda: not household.engine.running)
        await household.until(lambda: household.database.read(lambda c: not attempts.active(c)))
        household.clock.advance(60)
        household.dispatcher.wake()
    failed = await household.reaches(1, JobState.FAILED)
    assert failed.error is not None
    save(launch, 5)
    await household.jobs.retry("1", ALICE)
    again = await household.reaches(1, JobState.RUNNING)
    assert (again.error, again.finished_at, again.result) == (None, None, None)
    household.engine.end(household.engine.running[0].directory, Exit(1))
    await household.reaches(1, JobState.QUEUED)
    [event] = await told(household, EventType.JOB_RETRIED)
    assert (event["by"], event["from"]) == ("alice", "checkpoint")


async def test_a_retry_from_the_start_forgets_every_earlier_checkpoint(household):
    launch = await running(household)
    save(launch, 70)
    household.engine.end(launch.directory, Exit(1))
    await household.reaches(1, JobState.FAILED)
    assert (await household.jobs.retry("1", ALICE, Begin.START)).step == 0
    await household.reaches(1, JobState.RUNNING)
    assert "from" not in household.engine.started[-1].environment
    await lose(household, household.engine.started[-1])
    await household.reaches(1, JobState.RUNNING)
    assert "from" not in household.engine.started[-1].environment


async def test_what_cannot_be_is_refused_and_says_what_would_be_right(household):
    launch = await running(household)
    with pytest.raises(WrongState) as refused:
        await household.jobs.resume("1", ALICE)
    assert refused.value.hint == "it is running already"
    with pytest.raises(WrongState):
        await household.jobs.retry("1", ALICE)
    for move in (household.jobs.pause, household.jobs.resume, household.jobs.retry):
        with pytest.raises(Forbidden):
            await move("1", BOB)
    household.engine.end(launch.directory, Exit(0))
    await household.reaches(1, JobState.COMPLETED)
    with pytest.raises(JobAlreadyFinished):
        await household.jobs.pause("1", ALICE)
    with pytest.raises(WrongState) as refused:
        await household.jobs.retry("1", ALICE)
    assert "submit it again" in (refused.value.hint or "")


async def test_a_job_whose_dependency_failed_is_tried_again_after_it(household):
    launch = await running(household)
    await household.submit(depends_on=("1",))
    household.engine.end(launch.directory, Exit(1))
    await household.reaches(2, JobState.FAILED)
    with pytest.raises(WrongState, match="depends on job 1"):
        await household.jobs.retry("2", ALICE)
    await household.jobs.retry("1", ALICE)
    await household.jobs.retry("2", ALICE)
    await household.reaches(1, JobState.RUNNING)
    assert (await household.job(2)).state is JobState.QUEUED, "it waits for job 1"


async def test_a_preempted_job_goes_back_into_the_queue_and_goes_on(household):
    launch = await running(household)
    save(launch, 60)
    await household.jobs.preempt("1")
    await household.until(lambda: len(household.engine.started) == 2)
    await household.reaches(1, JobState.RUNNING)
    assert household.engine.started[-1].environment["from"] == "60"
    found = await household.database.read(lambda c: attempts.of_job(c, 1))
    assert found[0].outcome is Outcome.PREEMPTED


async def test_a_job_that_fails_while_it_gives_way_is_tried_again(household):
    launch = await running(household, max_retries=1)
    household.engine.stop = _nothing  # the trainer fails before the signal comes
    await household.jobs.preempt("1")
    household.engine.end(launch.directory, Exit(7))
    await household.reaches(1, JobState.QUEUED)
    (retrying,) = await told(household, EventType.JOB_RETRYING)
    assert retrying["code"] == "trainer_error"


async def test_a_job_that_fails_on_its_way_to_a_pause_is_not_tried_again_by_itself(household):
    launch = await running(household, max_retries=1)
    household.engine.stop = _nothing
    await household.jobs.pause("1", ALICE)
    household.engine.end(launch.directory, Exit(7))
    assert (await household.reaches(1, JobState.FAILED)).error is not None
    await household.jobs.retry("1", ALICE)
    await household.reaches(1, JobState.RUNNING)


async def test_a_pause_outlasts_the_daemon(tmp_path: Path):
    first = Household(tmp_path, FakeInventory(a_gpu()))
    await first.devices.read()
    launch = await running(first)
    save(launch, 11)
    first.engine.stop = _nothing
    await first.jobs.pause("1", ALICE)
    await first.close()
    del first.engine.stop
    log(launch, 11, 12)
    second = Household(tmp_path, FakeInventory(a_gpu()), first.engine, first.clock)
    await second.devices.read()
    await second.recovery.run_once()
    await second.dispatcher.start()
    await second.reaches(1, JobState.PAUSED)
    assert await logged(second) == [(1, 11)]
    assert (await second.jobs.resume("1", ALICE)).step == 11
    await second.reaches(1, JobState.RUNNING)
    await second.close()
