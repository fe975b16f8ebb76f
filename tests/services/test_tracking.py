"""Trackers get every line of every run, once and in order, whatever happens to them."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.factories import a_new_job
from tests.fakes import FakeClock, FakeDatasets, FakeTracker, FakeTrainer
from training_cluster.domain.errors import TrackerRefused, TrackerUnavailable
from training_cluster.domain.job import (
    AttemptRef,
    Job,
    JobState,
    Outcome,
    Progress,
    StopReason,
    TrainingPoint,
    Verdict,
)
from training_cluster.domain.metric import LineSource
from training_cluster.services.run_records import RunRecords, TrackingPlace
from training_cluster.services.tracking import RunFeeder
from training_cluster.store import (
    attempts,
    events,
    jobs,
    metric_lines,
    progress,
    returns,
    tracker_runs,
)
from training_cluster.store.database import Connection, Database
from training_cluster.store.metric_lines import NewLine
from training_cluster.store.tracker_runs import RunState

PLACE = TrackingPlace("lab", ("experiment", "project"), labels=("box-1",))


class Lab:
    """One store with jobs that log, and a tracker."""

    def __init__(self, folder: Path, tracker: FakeTracker) -> None:
        self.database = Database(folder / "queue.db")
        self.clock = FakeClock()
        self.tracker = tracker
        self.logged: Counter[tuple[str, int]] = Counter()
        self.feeder = self.restart()

    def restart(self) -> RunFeeder:
        records = RunRecords(FakeTrainer(), FakeDatasets())
        self.tracker.open_here.clear()
        self.feeder = RunFeeder(
            self.database, self.tracker, records, PLACE, self.clock, pause_seconds=0
        )
        return self.feeder

    async def start(self, job: Job | None = None, *, starts: bool = True, **fields: object) -> Job:
        """Claim a job's first attempt, or its next; and start it."""

        def change(c: Connection) -> Job:
            found = job
            if found is None:
                new = a_new_job(now=self.clock.now(), **fields)
                found = jobs.find(c, str(jobs.insert(c, new)))
            devices, where = (f"CPU-{found.number}",), f"/a/{found.id}/{found.attempt_number}"
            now, ports = self.clock.now(), range(29500, 29510)
            claimed = attempts.claim(c, found, devices, where, now, ports, ("mlflow",))
            assert claimed is not None
            if starts:
                attempts.mark_running(c, claimed, self.clock.now())
            return jobs.find(c, found.id)

        return await self.database.write(change)

    async def log(self, job: Job, *steps: int) -> None:
        """Have the running attempt log these steps."""
        points = [
            (TrainingPoint(Progress(step, 100), {"train/loss": 100.0 - step}), self.clock.now())
            for step in steps
        ]
        ref = AttemptRef(job.id, job.attempt_number)
        at = self.logged[job.id, job.attempt_number]
        stretch = (at, at + len(steps))
        await self.database.write(lambda c: progress.record(c, job.number, ref, points, stretch))
        self.logged[job.id, job.attempt_number] = at + len(steps)
        self.clock.advance(1)

    async def end(self, job: Job, outcome: Outcome, *, retry: bool = False) -> Job:
        """End the running attempt."""

        def change(c: Connection) -> Job:
            retry_at = self.clock.now() if retry else None
            why = "" if outcome is Outcome.COMPLETED else "it ended"
            verdict = Verdict(outcome, why, "look", {"final_loss": 1.0})
            attempts.end(c, jobs.find(c, job.id), verdict, 0, self.clock.now(), retry_at)
            return jobs.find(c, job.id)

        return await self.database.write(change)

    async def rows(self, job: Job) -> list[tracker_runs.RunRow]:
        return await self.database.read(lambda c: tracker_runs.of_job(c, job.number))

    def steps(self, key: str) -> list[int]:
        return [line.step for line in self.tracker.runs[key].lines]


@pytest.fixture(params=[False, True], ids=["idempotent", "counting"])
def lab(request: pytest.FixtureRequest, tmp_path: Path):
    lab = Lab(tmp_path, FakeTracker(counts=request.param))
    yield lab
    lab.database.close()


async def test_a_run_is_opened_fed_and_finished(lab: Lab):
    job = await lab.start(lora_name="sft", lora_version="2", tracking={"tags": ["nightly"]})
    await lab.log(job, 1, 2)
    await lab.feeder.run_once()
    run = lab.tracker.runs[job.id]
    assert run.opened.name == "sft-2"
    assert run.opened.project == "lab"
    assert run.opened.labels == ("box-1", "nightly")
    assert run.opened.parameters["learning_rate"] == 2e-5
    assert run.opened.tags["user"] == "alice"
    assert run.opened.tags["dataset_sha256"] == "0" * 64
    assert run.ending is None
    await lab.log(job, 3)
    await lab.end(job, Outcome.COMPLETED)
    await lab.feeder.run_once()
    assert lab.steps(job.id) == [1, 2, 3]
    assert [line.position for line in run.lines] == [0, 1, 2]
    assert run.ending is not None
    assert (run.ending.status, run.ending.lines) == ("completed", 3)
    assert run.ending.summary["final_loss"] == 1.0
    [row] = await lab.rows(job)
    assert (row.state, row.run_id, row.sent_lines) == (RunState.ENDED, f"id-{job.id}", 3)


async def test_a_run_is_not_opened_before_its_attempt_is_configured(lab: Lab):
    job = await lab.start(starts=False)
    await lab.feeder.run_once()
    assert lab.tracker.runs == {}
    await lab.end(job, Outcome.LAUNCH_FAILED)
    await lab.feeder.run_once()
    ending = lab.tracker.runs[job.id].ending
    assert ending is not None
    assert (ending.status, ending.message) == ("failed", "it ended")


async def test_a_tracker_that_was_away_gets_everything_in_order(lab: Lab):
    def away(call: str, done: bool) -> None:
        raise TrackerUnavailable("no route to host")

    lab.tracker.fault = away
    running = [await lab.start() for _ in range(3)]
    for step in range(1, 40):
        for job in running:
            await lab.log(job, step)
        await lab.feeder.run_once()
    for job in running:
        await lab.end(job, Outcome.COMPLETED)
    standing = lab.feeder.standing
    assert (standing.up, standing.message) == (False, "no route to host")
    assert lab.feeder.delay() == 60.0
    lab.tracker.fault = lambda call, done: None
    await lab.feeder.run_once()
    for job in running:
        assert lab.steps(job.id) == list(range(1, 40))
    assert lab.feeder.standing.up
    assert await lab.database.read(lambda c: tracker_runs.to_do(c, "mlflow")) == []


@pytest.mark.parametrize("seed", range(12))
async def test_nothing_is_lost_or_doubled_by_failures_at_any_moment(lab: Lab, seed: int):
    chance = random.Random(seed)

    def fail(call: str, done: bool) -> None:
        if chance.random() < 0.3:
            raise TrackerUnavailable("gone")

    running = [await lab.start() for _ in range(3)]
    lab.tracker.fault = fail
    for step in range(1, 60):
        await lab.log(chance.choice(running), step)
        if chance.random() < 0.4:
            await lab.feeder.run_once()
        if chance.random() < 0.1:
            lab.restart()
    for job in running:
        await lab.end(job, Outcome.CANCELLED)
    for _ in range(200):
        await lab.feeder.run_once()
    for job in running:
        stored = await lab.database.read(lambda c, n=job.number: metric_lines.after(c, n, 0, 1000))
        run = lab.tracker.runs[job.id]
        assert [(m.step, m.time, m.values) for m in stored] == [
            (line.step, line.time, line.values) for line in run.lines
        ]
        assert run.ending is not None
        assert run.ending.status == "cancelled"


async def test_an_attempt_that_begins_anew_gets_a_run_of_its_own(lab: Lab):
    job = await lab.start()
    await lab.log(job, 1, 2, 3, 4)
    await lab.feeder.run_once()
    job = await lab.end(job, Outcome.KILLED, retry=True)
    job = await lab.start(job)
    await lab.feeder.run_once()
    assert list(lab.tracker.runs) == [job.id]
    await lab.log(job, 1, 2)
    await lab.feeder.run_once()
    await lab.log(job, 3)
    await lab.end(job, Outcome.COMPLETED)
    await lab.feeder.run_once()
    assert lab.steps(job.id) == [1, 2, 3, 4]
    assert lab.steps(f"{job.id}-2") == [1, 2, 3]
    first, second = lab.tracker.runs[job.id].ending, lab.tracker.runs[f"{job.id}-2"].ending
    assert first is not None
    assert second is not None
    assert (first.status, second.status) == ("failed", "completed")
    assert "attempt 2 began anew" in first.message


async def test_an_attempt_that_resumes_in_between_keeps_the_steps_before(lab: Lab):
    job = await lab.start()
    await lab.log(job, 10, 20, 30, 40)
    await lab.feeder.run_once()
    job = await lab.start(await lab.end(job, Outcome.KILLED, retry=True))
    await lab.log(job, 30, 40, 50)
    await lab.end(job, Outcome.COMPLETED)
    await lab.feeder.run_once()
    assert lab.steps(job.id) == [10, 20, 30, 40]
    assert lab.steps(f"{job.id}-2") == [10, 20, 30, 40, 50]
    curve = await lab.database.read(lambda c: metric_lines.points(c, job.number, "train/loss"))
    assert [point[0] for point in curve] == [10, 20, 30, 40, 50]


async def test_an_attempt_that_goes_on_exactly_where_the_last_ended_goes_on_in_its_run(lab: Lab):
    job = await lab.start()
    await lab.log(job, 10, 20)
    await lab.feeder.run_once()
    job = await lab.start(await lab.end(job, Outcome.INTERRUPTED, retry=True))
    await lab.log(job, 30)
    await lab.end(job, Outcome.COMPLETED)
    await lab.feeder.run_once()
    assert list(lab.tracker.runs) == [job.id]
    assert lab.steps(job.id) == [10, 20, 30]


async def test_a_job_that_is_tried_again_after_its_end_goes_on_in_its_run(lab: Lab):
    job = await lab.start()
    await lab.log(job, 10, 20)
    job = await lab.end(job, Outcome.TRAINER_ERROR)
    await lab.feeder.run_once()
    ending = lab.tracker.runs[job.id].ending
    assert ending is not None
    assert ending.status == "failed"

    def retry(c: Connection) -> Job:
        returns.retry(c, job, lab.clock.now(), "alice", from_start=False)
        return jobs.find(c, job.id)

    job = await lab.start(await lab.database.write(retry))
    await lab.log(job, 30)
    await lab.end(job, Outcome.COMPLETED)
    await lab.feeder.run_once()
    assert list(lab.tracker.runs) == [job.id]
    assert lab.steps(job.id) == [10, 20, 30]
    ending = lab.tracker.runs[job.id].ending
    assert ending is not None
    assert ending.status == "completed"


async def test_a_paused_run_is_left_open_and_closed_by_a_cancellation(lab: Lab):
    job = await lab.start()
    await lab.log(job, 10)

    def stop(c: Connection) -> None:
        found = jobs.find(c, job.id)
        attempts.mark_stopping(c, found, StopReason.PAUSED, lab.clock.now())

    await lab.database.write(stop)
    job = await lab.end(job, Outcome.PAUSED)
    await lab.feeder.run_once()
    assert lab.tracker.runs[job.id].ending is None
    await lab.database.write(
        lambda c: jobs.end_unstarted(c, job, JobState.CANCELLED, lab.clock.now(), None)
    )
    await lab.feeder.run_once()
    ending = lab.tracker.runs[job.id].ending
    assert ending is not None
    assert ending.status == "cancelled"


async def test_device_samples_are_lines_of_the_run_too(lab: Lab):
    job = await lab.start()
    ref = AttemptRef(job.id, 1)
    sample = NewLine(0, lab.clock.now(), {"system/gpu_0_power_usage_watts": 300.0})
    await lab.database.write(
        lambda c: metric_lines.append(c, job.number, ref, LineSource.TELEMETRY, [sample])
    )
    await lab.log(job, 1)
    await lab.end(job, Outcome.COMPLETED)
    await lab.feeder.run_once()
    names = [name for line in lab.tracker.runs[job.id].lines for name in line.values]
    assert names == ["system/gpu_0_power_usage_watts", "train/loss"]


async def test_a_refused_run_warns_its_owner_and_holds_up_nobody(lab: Lab):
    refused, fine = await lab.start(), await lab.start()
    open_run = lab.tracker.open

    async def picky(run):
        if run.key == refused.id:
            raise TrackerRefused("bad project name")
        return await open_run(run)

    lab.tracker.open = picky  # type: ignore[method-assign]
    for job in (refused, fine):
        await lab.log(job, 1)
        await lab.end(job, Outcome.COMPLETED)
    await lab.feeder.run_once()
    [row] = await lab.rows(refused)
    assert (row.state, row.message) == (RunState.REFUSED, "bad project name")
    told = await lab.database.read(lambda c: events.page(c, 0, 100, job_number=refused.number))
    assert "bad project name" in next(e for e in told if e.type == "job.warning").data["message"]
    assert lab.steps(fine.id) == [1]
    assert lab.feeder.standing.up


async def test_a_warning_is_told_once(lab: Lab):
    open_run = lab.tracker.open

    async def offline(run):
        return replace(await open_run(run), warning="kept offline")

    lab.tracker.open = offline  # type: ignore[method-assign]
    job = await lab.start()
    for _ in range(3):
        await lab.feeder.run_once()
        lab.restart()
    told = await lab.database.read(lambda c: events.page(c, 0, 100, job_number=job.number))
    assert [e.data["message"] for e in told if e.type == "job.warning"] == ["kept offline"]


async def test_a_pass_over_nothing_costs_nothing(lab: Lab):
    await lab.feeder.run_once()
    assert lab.tracker.runs == {}
    assert lab.feeder.delay() is None
