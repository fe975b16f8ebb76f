"""A trainer that does nothing any more is told of once, and stopped where that is wanted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.factories import a_gpu
from tests.fakes import FakeInventory
from tests.services.household import Household
from training_cluster.domain.device import DeviceKind
from training_cluster.domain.job import (
    AttemptRef,
    Job,
    JobState,
    Progress,
    StopReason,
    TrainingPoint,
)
from training_cluster.ports import VitalSigns
from training_cluster.scheduling.hang import HangRules
from training_cluster.services.hang_watch import HangWatch
from training_cluster.store import attempts, events, progress

MINUTE = 60.0
CPU = replace(a_gpu(0), kind=DeviceKind.CPU)


class Ward:
    """A household with one running job whose pulse is felt."""

    def __init__(self, home: Household, **rules: float | None) -> None:
        self.home = home
        self.watch = HangWatch(
            home.database,
            home.engine,
            home.devices,
            home.supervisor,
            home.clock,
            HangRules(**rules),  # type: ignore[arg-type]
        )

    async def admit(self, **fields: object) -> Job:
        await self.home.devices.read()
        job = (await self.home.submit(**fields)).job
        running = await self.home.reaches(job.id, JobState.RUNNING)
        await self.watch.run_once()
        return running

    async def minutes(self, count: int, **signs: float) -> None:
        """Look every minute; each look finds these signs increased by so much."""
        for _ in range(count):
            before = self.home.engine.signs
            self.home.engine.signs = VitalSigns(
                before.files + int(signs.get("files", 0)),
                (before.cpu_seconds or 0.0) + signs.get("cpu_seconds", 0.0),
            )
            self.home.clock.advance(MINUTE)
            await self.watch.run_once()

    async def step(self, job: Job, step: int) -> None:
        point = TrainingPoint(Progress(step, 100), {"train/loss": 1.0})
        ref, now = AttemptRef(job.id, job.attempt_number), self.home.clock.now()
        await self.home.database.write(
            lambda c: progress.record(c, job.number, ref, [(point, now)], (0, 1))
        )

    async def told(self) -> list[dict]:
        found = await self.home.database.read(lambda c: events.page(c, 0, 1000))
        return [event.data for event in found if event.type.value == "job.stalled"]


@pytest.fixture
async def home(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Household]:
    device, source = getattr(request, "param", (CPU, "cpu"))
    made = Household(tmp_path, FakeInventory(device, source=source))
    yield made
    await made.close()


ON_A_GPU = pytest.mark.parametrize("home", [(a_gpu(0), "nvml")], indirect=True)
ON_A_SLICE = pytest.mark.parametrize(
    "home",
    [(replace(a_gpu(0), kind=DeviceKind.MIG, utilization_percent=None), "nvml")],
    indirect=True,
)


async def test_half_an_hour_without_any_sign_is_told_once(home: Household):
    ward = Ward(home)
    job = await ward.admit()
    await ward.minutes(29)
    assert await ward.told() == []
    await ward.minutes(31)
    (told,) = await ward.told()
    assert told["seconds"] == 1800
    assert "nothing has moved for 30 min" in told["message"]
    assert [still.job_number for still in ward.watch.still] == [job.number]
    (warning,) = (await home.job(job.id)).warnings
    assert warning.startswith("attempt 1: nothing has moved for 30 min")
    assert (await home.job(job.id)).state is JobState.RUNNING, "nobody is stopped unasked"


async def test_a_trainer_that_moves_again_and_hangs_again_is_told_of_again(home: Household):
    ward = Ward(home)
    await ward.admit()
    await ward.minutes(30)
    await ward.minutes(1, files=1)
    assert list(ward.watch.still) == []
    await ward.minutes(29)
    assert len(await ward.told()) == 1
    await ward.minutes(1)
    assert len(await ward.told()) == 2


@pytest.mark.parametrize("signs", [{"files": 1}, {"cpu_seconds": 6.0}])
async def test_files_and_processor_time_are_signs_of_life(home: Household, signs: dict[str, float]):
    ward = Ward(home, warn_seconds=600.0)
    await ward.admit()
    await ward.minutes(60, **signs)
    assert await ward.told() == []


async def test_threads_that_only_wait_are_no_sign_of_life(home: Household):
    ward = Ward(home, warn_seconds=600.0)
    await ward.admit()
    await ward.minutes(10, cpu_seconds=1.0)
    assert len(await ward.told()) == 1


@ON_A_GPU
async def test_on_a_gpu_processor_time_counts_until_the_first_step(home: Household):
    ward = Ward(home, warn_seconds=600.0)
    job = await ward.admit()
    await ward.minutes(60, cpu_seconds=60.0)
    assert await ward.told() == [], "it tokenises"
    await ward.step(job, 1)
    await ward.minutes(11, cpu_seconds=60.0)
    assert len(await ward.told()) == 1, "its processes spin beside an idle GPU"


@ON_A_GPU
async def test_a_gpu_at_work_is_a_sign_of_life(home: Household):
    ward = Ward(home, warn_seconds=600.0)
    job = await ward.admit()
    await ward.step(job, 1)
    home.inventory.devices = (replace(a_gpu(0), utilization_percent=80.0),)
    await ward.minutes(60)
    assert await ward.told() == []


@ON_A_SLICE
async def test_on_a_slice_which_tells_no_load_processor_time_counts_always(home: Household):
    ward = Ward(home, warn_seconds=600.0)
    job = await ward.admit()
    await ward.step(job, 1)
    await ward.minutes(60, cpu_seconds=30.0)
    assert await ward.told() == []


async def test_ranks_that_spin_for_ever_are_seen_by_their_steps_where_that_is_set(home: Household):
    ward = Ward(home, warn_seconds=600.0, no_step_seconds=7200.0)
    job = await ward.admit()
    await ward.minutes(150, cpu_seconds=60.0)
    assert await ward.told() == [], "no step was logged yet: it may be tokenising"
    await ward.step(job, 1)
    await ward.minutes(120, cpu_seconds=60.0)
    assert await ward.told() == []
    await ward.minutes(1, cpu_seconds=60.0)
    assert len(await ward.told()) == 1


async def test_by_policy_it_is_stopped_and_ends_as_hung(home: Household):
    ward = Ward(home, stop_seconds=3600.0)
    job = await ward.admit()
    await ward.minutes(59)
    assert home.engine.stopped == []
    await ward.minutes(1)
    assert [reason for _, reason in home.engine.stopped] == [StopReason.HUNG]
    failed = await home.reaches(job.id, JobState.FAILED)
    assert failed.error is not None
    assert failed.error.code == "hung"
    assert len(await ward.told()) == 1
    await ward.minutes(5)
    assert len(home.engine.stopped) == 1
    assert list(ward.watch.still) == []


async def test_a_hung_attempt_counts_against_the_retries_and_is_followed_by_another(
    home: Household,
):
    ward = Ward(home, stop_seconds=600.0)
    job = await ward.admit(max_retries=1)
    await ward.minutes(10)
    assert (await home.reaches(job.id, JobState.QUEUED)).not_before is not None
    home.clock.advance(10)
    await home.dispatcher.run_once()
    await home.reaches(job.id, JobState.RUNNING)
    await ward.minutes(11)
    await home.reaches(job.id, JobState.FAILED)
    found = await home.database.read(lambda c: attempts.of_job(c, job.number))
    assert [attempt.outcome.value for attempt in found] == ["hung", "hung"]


async def test_nothing_is_looked_at_when_nothing_would_follow(home: Household):
    ward = Ward(home, warn_seconds=None)
    await ward.admit()
    assert ward.watch.delay() is None
    await ward.minutes(100)
    assert await ward.told() == []
