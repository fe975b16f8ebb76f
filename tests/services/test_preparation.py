"""The next job is made ready while all devices are taken, and used only where it fits."""

from __future__ import annotations

from tests.factories import ALICE
from training_cluster.domain.job import JobState
from training_cluster.ports import Exit, Launch


def record_staging(household) -> list[Launch]:
    """The launches the engine is asked to stage from now on."""
    staged: list[Launch] = []

    async def stage(launch: Launch) -> None:
        staged.append(launch)

    household.engine.stage = stage
    return staged


async def fill_both_devices(household) -> None:
    for _ in range(2):
        await household.submit()
    await household.reaches(2, JobState.RUNNING)


async def stage_a_third_job(household) -> list[Launch]:
    """Two jobs run, job 3 waits; returns what is staged, which is that."""
    staged = record_staging(household)
    await fill_both_devices(household)
    await household.submit()
    await household.dispatcher.run_once()
    await household.until(lambda: staged)
    return staged


async def end_of(household, number: int) -> None:
    job = await household.job(number)
    launch = next(x for x in household.engine.running if x.ref.job_id == job.id)
    household.engine.end(launch.directory, Exit(0))
    await household.reaches(number, JobState.COMPLETED)


async def test_the_next_job_is_staged_and_then_started_as_it_was(household):
    staged = await stage_a_third_job(household)
    job = await household.job(3)
    assert job.state is JobState.QUEUED, "staged is not claimed"
    assert staged[0].ref.job_id == job.id
    await end_of(household, 1)
    await household.reaches(3, JobState.RUNNING)
    assert household.engine.started[-1].ref == staged[0].ref


async def test_a_job_that_gets_another_device_is_prepared_again(household):
    staged = await stage_a_third_job(household)
    await end_of(household, 2)
    await household.reaches(3, JobState.RUNNING)
    assert staged[0].environment["devices"] == "GPU-00000000"
    assert household.engine.started[-1].environment["devices"] == "GPU-00000001"


async def test_a_staged_job_that_is_cancelled_never_runs(household):
    await stage_a_third_job(household)
    await household.jobs.cancel("3", ALICE)
    await end_of(household, 1)
    await household.dispatcher.run_once()
    assert (await household.job(3)).state is JobState.CANCELLED
    assert len(household.engine.started) == 2


async def test_a_job_for_several_devices_is_not_staged(household):
    staged = record_staging(household)
    await fill_both_devices(household)
    await household.submit(gpus=2)
    await household.dispatcher.run_once()
    assert staged == []


async def test_a_model_that_leads_elsewhere_by_now_is_not_trained(household, tmp_path):
    """Between submission and start somebody puts a link in the place of a model."""
    model, other = tmp_path / "models" / "mine", tmp_path / "elsewhere"
    for folder in (model, other):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
    await fill_both_devices(household)
    await household.submit(model_name=str(model))
    model.rename(tmp_path / "models" / "moved")
    model.symlink_to(other)
    await end_of(household, 1)
    failed = await household.reaches(3, JobState.FAILED)
    assert "not below a model root" in failed.error.message
    assert all(launch.ref.job_id != failed.id for launch in household.engine.started)
