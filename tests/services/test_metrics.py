"""Each line of a trainer's log becomes a metric line once, dated by when it was written."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from tests.factories import NOW, a_new_job
from tests.fakes import FakeClock, FakeTrainer
from training_cluster.adapters.llamafactory.progress import parse_line
from training_cluster.domain.event import EventType
from training_cluster.domain.job import AttemptRef, Checkpoint, Progress, TrainingPoint
from training_cluster.services.metrics import MetricsFollower, timed
from training_cluster.store import attempts, events, jobs, metric_lines
from training_cluster.store.database import Database
from training_cluster.store.progress import Limits


class Reader(FakeTrainer):
    def parse(self, line: bytes, since: Checkpoint | None = None) -> TrainingPoint | None:
        return parse_line(line, since)


@pytest.fixture
async def running(tmp_path: Path):
    """A follower, and a running attempt whose log is `log` in the folder."""
    database, clock = Database(tmp_path / "queue.db"), FakeClock()

    def start(c):
        job = jobs.find(c, str(jobs.insert(c, a_new_job())))
        attempts.claim(c, job, ("CPU-0",), str(tmp_path), NOW, range(29500, 29510))
        return job

    job = await database.write(start)
    yield MetricsFollower(database, Reader(), clock, Limits()), database, job, clock
    database.close()


def line(step: int, elapsed: int = 0) -> bytes:
    fields = {"current_steps": step, "total_steps": 1000, "loss": 1 / step}
    return json.dumps({**fields, "elapsed_time": f"0:00:{elapsed:02d}"}).encode() + b"\n"


async def lines_of(database, job):
    return await database.read(lambda c: metric_lines.after(c, job.number, 0, 10_000))


async def test_two_readers_of_one_log_store_a_line_once(running, tmp_path):
    follower, database, job, _ = running
    tail = follower.follow(AttemptRef(job.id, 1), job.number, tmp_path)
    for step in range(1, 200):
        with (tmp_path / "log").open("ab") as log:
            log.write(line(step))
        await asyncio.gather(*(follower.catch_up(tail) for _ in range(3)))
    assert [found.step for found in await lines_of(database, job)] == list(range(1, 200))


async def test_a_reader_that_is_behind_goes_on_where_the_store_is(running, tmp_path):
    follower, database, job, _ = running
    ref = AttemptRef(job.id, 1)
    (tmp_path / "log").write_bytes(line(1) + line(2))
    await follower.catch_up(follower.follow(ref, job.number, tmp_path))
    (tmp_path / "log").write_bytes(line(1) + line(2) + line(3))
    await follower.catch_up(follower.follow(ref, job.number, tmp_path, offset=0))
    assert [found.step for found in await lines_of(database, job)] == [1, 2, 3]


async def test_a_half_written_line_waits_for_its_end(running, tmp_path):
    follower, database, job, _ = running
    tail = follower.follow(AttemptRef(job.id, 1), job.number, tmp_path)
    whole = line(1) + line(2)
    for end in range(1, len(whole) + 1):
        (tmp_path / "log").write_bytes(whole[:end])
        await follower.catch_up(tail)
    assert [found.step for found in await lines_of(database, job)] == [1, 2]


async def test_lines_read_late_are_dated_by_when_they_were_written(running, tmp_path):
    follower, database, job, clock = running
    tail = follower.follow(AttemptRef(job.id, 1), job.number, tmp_path)
    (tmp_path / "log").write_bytes(line(1, 10) + line(2, 25) + line(3, 31))
    os.utime(tmp_path / "log", (NOW + 31, NOW + 31))
    clock.advance(3600)
    await follower.catch_up(tail)
    assert [found.time - NOW for found in await lines_of(database, job)] == [10, 25, 31]


def test_times_never_go_back():
    def at(elapsed):
        return TrainingPoint(Progress(1, 9, elapsed_seconds=elapsed), {})

    found = timed([at(5.0), at(9.0), at(7.0), at(None)], 100.0, 97.0)
    times = [time for _, time in found]
    assert times == sorted(times)
    assert len({round(1000 * time) for time in times}) == 4, "no two in one millisecond"
    assert timed([at(50.0), at(60.0)], 100.0, 97.0)[0][1] == pytest.approx(97.0, abs=0.01)
    lines_of_a_second = timed([at(8.0), at(9.0), at(9.0), at(9.0), at(9.0)], 100.0, 0.0)
    assert [time for _, time in lines_of_a_second] == [99.0, 99.25, 99.5, 99.75, 100.0]
    assert timed([], 1.0, 0.0) == []


async def test_progress_is_told_as_often_as_the_settings_say(running, tmp_path):
    _, database, job, clock = running
    follower = MetricsFollower(database, Reader(), clock, Limits(60))
    tail = follower.follow(AttemptRef(job.id, 1), job.number, tmp_path)
    await database.write(lambda c: events.append(c, NOW, EventType.JOB_STARTED, job.number, 1))
    for minute in range(1, 11):
        clock.advance(20)
        with (tmp_path / "log").open("ab") as log:
            log.write(line(minute))
        os.utime(tmp_path / "log", (clock.now(), clock.now()))
        await follower.catch_up(tail)
    kind = EventType.JOB_PROGRESS
    told = await database.read(lambda c: events.page(c, 0, 100, kind=kind))
    assert [event.time - NOW for event in told] == [60, 120, 180]
    assert told[0].data["progress"]["step"] == 3


async def test_followers_are_served_sooner(running, tmp_path):
    follower, _, job, _ = running
    assert follower.delay() is None
    follower.follow(AttemptRef(job.id, 1), job.number, tmp_path)
    unwatched = follower.delay()
    follower.has_watchers = lambda: True
    assert unwatched is not None
    assert follower.delay() < unwatched


async def test_a_log_without_end_is_kept_up_to_its_limit_and_says_so_once(running, tmp_path):
    _, database, job, clock = running
    follower = MetricsFollower(database, Reader(), clock, Limits(most_bytes=10 * len(line(1))))
    tail = follower.follow(AttemptRef(job.id, 1), job.number, tmp_path)
    for step in range(1, 30):
        with (tmp_path / "log").open("ab") as log:
            log.write(line(step))
        await follower.catch_up(tail)
    assert [found.step for found in await lines_of(database, job)] == list(range(1, 11))
    told = await database.read(lambda c: events.page(c, 0, 100, kind=EventType.JOB_WARNING))
    assert len(told) == 1
    found = await database.read(lambda c: jobs.find(c, job.id))
    assert found.progress is not None
    assert found.progress.step == 29, "progress goes on"
