"""A tracker and a receiver are away for six hours: no job notices, little is kept in memory, and
everything arrives once they are back."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.factories import ROOT, a_gpu
from tests.fakes import FakeDatasets, FakeInventory, FakeTracker, FakeTrainer, Told
from tests.services.household import Household
from tests.trust import Promise
from training_cluster.domain.errors import TrackerUnavailable
from training_cluster.domain.job import AttemptRef, Job, JobState, Outcome, Progress, TrainingPoint
from training_cluster.ports import Exit, Receipt
from training_cluster.services import deliveries as deliveries_module
from training_cluster.services import tracking as tracking_module
from training_cluster.services.run_records import RunRecords, TrackingPlace
from training_cluster.services.tracking import RunFeeder
from training_cluster.services.webhooks import NewWebhook
from training_cluster.store import deliveries, progress, tracker_runs

SIX_HOURS = 6 * 3600.0
SLOTS = 2
LINES = 5
RECEIVER = "https://receiver.example/hook"
MOST_AT_ONCE = 64
MOST_BYTES_KEPT = 64 << 10


@dataclass
class Seen:
    """What was looked at while everything was away."""

    most_under_way: int = 0
    kept_bytes: int = 0
    started_late: int = 0
    wrong_durations: int = 0
    tries_to_open: int = 0
    jobs: list[Job] = field(default_factory=list)


class Box:
    """A daemon's services with a tracker and a receiver that can be away."""

    def __init__(self, folder: Path) -> None:
        slots = [a_gpu(index) for index in range(SLOTS)]
        self.home = Household(
            folder, FakeInventory(*slots, source="cpu"), trackers=frozenset({"mlflow"})
        )
        self.away = False
        self.seen = Seen()
        self.tracker = FakeTracker(counts=True)
        self.tracker.fault = self._tracker_fault
        self.home.notifier.answer = self._receiver_answer
        self.feeder = RunFeeder(
            self.home.database,
            self.tracker,
            RunRecords(FakeTrainer(), FakeDatasets()),
            TrackingPlace("lab", ()),
            self.home.clock,
            pause_seconds=0,
        )

    def _tracker_fault(self, call: str, done: bool) -> None:
        if self.away and not done:
            self.seen.tries_to_open += call == "open"
            raise TrackerUnavailable("connection refused")

    def _receiver_answer(self, _: Told) -> Receipt:
        under_way = len(self.home.deliveries._under_way)
        self.seen.most_under_way = max(self.seen.most_under_way, under_way)
        return Receipt(None, "connection refused") if self.away else Receipt(200)

    async def a_minute(self) -> None:
        """The background's work of a minute."""
        await self.feeder.run_once()
        await self.deliver()
        self.home.clock.advance(60)

    async def deliver(self) -> None:
        while True:
            now = self.home.clock.now()
            due = await self.home.database.read(
                lambda c, now=now: deliveries.due(c, now, per_webhook=1, limit=1)
            )
            if not due:
                return
            await self.home.deliveries.run_once()
            await self.home.deliveries.idle()

    async def round(self, minutes: int) -> None:
        """One job a slot, each of which takes so many minutes and logs its lines."""
        began = self.home.clock.now()
        batch = [(await self.home.submit(tracking_backend="mlflow")).job for _ in range(SLOTS)]
        for job in batch:
            running = await self.home.reaches(job.id, JobState.RUNNING)
            self.seen.started_late += running.started_at != began
            await self._log(running)
        for _ in range(minutes):
            await self.a_minute()
        for launch in self.home.engine.running:
            self.home.engine.end(launch.directory, Exit(0))
        for job in batch:
            done = await self.home.reaches(job.id, JobState.COMPLETED)
            took = (done.finished_at or 0) - (done.started_at or 0)
            self.seen.wrong_durations += took != minutes * 60
            self.seen.jobs.append(done)

    async def _log(self, job: Job) -> None:
        now, ref = self.home.clock.now(), AttemptRef(job.id, 1)
        points = [
            (TrainingPoint(Progress(step, LINES), {"train/loss": 1.0 / step}), now)
            for step in range(1, LINES + 1)
        ]
        await self.home.database.write(
            lambda c: progress.record(c, job.number, ref, points, (0, LINES))
        )

    async def catch_up(self) -> None:
        """Let time pass until nothing is left to be told to anybody."""
        for _ in range(10_000):
            await self.a_minute()
            waiting = await self.home.database.read(
                lambda c: (tracker_runs.to_do(c, "mlflow"), deliveries.next_at(c, 0.0))
            )
            if waiting == ([], None):
                return
        raise AssertionError("it never ends")


async def check(folder: Path, minutes_a_job: int) -> str:
    """Six hours away, with jobs that take so many minutes; returns what was reached."""
    box = Box(folder)
    await box.home.devices.read()
    hook = (await box.home.webhooks.create(NewWebhook(url=RECEIVER), ROOT)).webhook
    tracemalloc.start()
    try:
        box.away = True
        end = box.home.clock.now() + SIX_HOURS
        while box.home.clock.now() < end:
            await box.round(minutes_a_job)
            box.home.notifier.told.clear()  # the fake remembers every try; nobody else does
        box.seen.kept_bytes = _kept_bytes()
    finally:
        tracemalloc.stop()
    assert box.feeder.standing.up is False
    outbox = await box.home.database.read(lambda c: deliveries.page(c, hook.id, limit=100_000))
    box.away = False
    await box.catch_up()
    found = _judge(box, box.home.notifier.told, len(outbox))
    assert box.feeder.standing.up is True
    await box.home.close()
    return found


def _kept_bytes() -> int:
    """Memory that the two services keep at this moment."""
    files = [module.__file__ or "" for module in (deliveries_module, tracking_module)]
    filters = [tracemalloc.Filter(True, file) for file in files]
    statistics = tracemalloc.take_snapshot().filter_traces(filters).statistics("filename")
    return sum(statistic.size for statistic in statistics)


def _judge(box: Box, arrived: list[Told], outbox: int) -> str:
    seen, ended = box.seen, {job.id for job in box.seen.jobs}
    assert (seen.started_late, seen.wrong_durations) == (0, 0)
    assert seen.most_under_way <= MOST_AT_ONCE
    assert seen.kept_bytes < MOST_BYTES_KEPT, seen.kept_bytes
    assert seen.tries_to_open <= SIX_HOURS / 60 * 8, "eight runs a minute at most are tried"
    messages = Counter(told.message_id for told in arrived)
    assert set(messages.values()) == {1}, "nothing is told twice to a receiver that answers"
    assert len(messages) == outbox, "everything that happened arrived"
    finals = [t.document for t in arrived if t.document["type"] == "job.completed"]
    assert Counter(each["data"]["job"]["job_id"] for each in finals) == dict.fromkeys(ended, 1)
    for job in ended:
        run = box.tracker.runs[job]
        assert [line.step for line in run.lines] == list(range(1, LINES + 1))
        assert run.ending is not None
        assert run.ending.status == Outcome.COMPLETED.value
    return (
        f"{len(ended)} jobs in 6 h: 0 held up; at most {seen.most_under_way} deliveries under way "
        f"and {seen.kept_bytes >> 10} KiB kept in memory; {len(finals)} final events and "
        f"{len(ended) * LINES} lines delivered, each once"
    )


async def test_six_hours_without_tracker_and_receiver_hold_up_no_job_and_lose_nothing(
    tmp_path: Path, trust: Callable[..., None]
) -> None:
    trust(Promise.OUTAGE, await check(tmp_path, minutes_a_job=30), form="short")


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_six_hours_full_of_jobs_without_tracker_and_receiver(
    tmp_path: Path, trust: Callable[..., None]
) -> None:
    trust(Promise.OUTAGE, await check(tmp_path, minutes_a_job=1), form="full")


async def test_both_are_asked_ever_more_rarely_while_they_are_away(tmp_path: Path) -> None:
    box = Box(tmp_path)
    await box.home.devices.read()
    await box.home.webhooks.create(NewWebhook(url=RECEIVER), ROOT)
    box.away = True
    await box.round(minutes=60)
    told = Counter(told.message_id for told in box.home.notifier.told)
    assert max(told.values()) == 4, "at once, after 5 s, 5 min and 30 min"
    assert box.feeder.delay() == 60.0
    await box.home.close()
