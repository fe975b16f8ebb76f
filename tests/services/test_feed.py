"""Streams over a real store: nothing is missed, nothing comes twice, whatever meets whatever."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.factories import NOW, ROOT, a_new_job
from training_cluster.domain.event import EventType
from training_cluster.domain.job import AttemptRef, Job, JobState
from training_cluster.domain.metric import LineSource
from training_cluster.services import feed as feed_module
from training_cluster.services.feed import Feed, Item, Page
from training_cluster.services.history import History, Over
from training_cluster.services.news import News
from training_cluster.store import events, jobs, metric_lines, pruning
from training_cluster.store.database import Database
from training_cluster.store.metric_lines import NewLine


class Newsroom:
    """A store whose commits are news, and the history over it."""

    def __init__(self, path: Path) -> None:
        self.database = Database(path)
        self.news = News()
        self.database.listen(self.news.tell)
        self.history = History(self.database, self.news)

    async def job(self) -> Job:
        number = await self.database.write(lambda c: jobs.insert(c, a_new_job()))
        return await self.history.job(str(number))

    async def log(self, job: Job, *steps: int) -> None:
        lines = [NewLine(step, NOW, {"train/loss": float(step)}) for step in steps]
        ref, source = AttemptRef(job.id, 1), LineSource.TRAINER
        await self.database.write(lambda c: metric_lines.append(c, job.number, ref, source, lines))

    async def end(self, job: Job) -> None:
        await self.database.write(
            lambda c: jobs.end_unstarted(c, job, JobState.CANCELLED, NOW, None)
        )

    async def steps(
        self, job: Job, after: int = 0, until: int | None = None, pause: float | None = None
    ) -> list[int | str]:
        """What a stream tells: steps, and at last how the job ended."""
        told: list[int | str] = []
        async for item in self.history.follow_lines(job, after):
            if isinstance(item, Over):
                told.append(item.status.value)
            elif item is not None:
                told.append(item.content.step)
                if pause is not None:
                    await asyncio.sleep(pause)
            if until is not None and len(told) >= until:
                break
        return told


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Newsroom]:
    made = Newsroom(tmp_path / "queue.db")
    yield made
    made.database.close()


@pytest.mark.parametrize("seed", range(12))
async def test_every_follower_gets_every_line_once_and_in_order(room, seed, monkeypatch):
    """Followers come at any moment, some slower than what is kept for them."""
    monkeypatch.setattr(feed_module, "_PAGE", 5)
    dice = random.Random(seed)
    monkeypatch.setattr(feed_module, "_KEPT", dice.choice([3, 8, 500]))
    job, others = await room.job(), await room.job()
    total = 300
    followers: list[tuple[int, asyncio.Task[list[int | str]]]] = []
    step = 0

    async def join() -> None:
        after = dice.randrange(step + 1)
        pause = dice.choice([None, None, 0, 0.0005])
        # other jobs' lines lie between: a sequence number is not a step
        known = [line.sequence for line in await all_lines(room, job)]
        behind = known[after - 1] if after else 0
        followers.append((after, asyncio.create_task(room.steps(job, behind, pause=pause))))

    while step < total:
        if dice.random() < 0.2:
            await join()
        size = min(dice.choice([1, 1, 1, 4, 20]), total - step)
        writing = asyncio.create_task(room.log(job, *range(step, step + size)))
        if dice.random() < 0.4:
            await room.log(others, 7)
        if dice.random() < 0.5:
            await writing
            await asyncio.sleep(dice.choice([0, 0, 0.001]))
        await writing
        step += size
    await join()
    await room.end(job)
    async with asyncio.timeout(30):
        for after, following in followers:
            assert await following == [*range(after, total), "cancelled"]
    assert room.news.lines.followers == 0


async def all_lines(room: Newsroom, job: Job):
    return await room.database.read(lambda c: metric_lines.after(c, job.number, 0, 10_000))


async def test_a_reader_that_comes_back_goes_on_where_it_was(room):
    job = await room.job()
    await room.log(job, *range(10))
    first = await room.steps(job, until=4)
    behind = (await all_lines(room, job))[3].sequence
    await room.log(job, 10)
    await room.end(job)
    assert first + await room.steps(job, behind) == [*range(11), "cancelled"]


async def test_a_slow_reader_costs_no_more_than_what_is_kept(room):
    job = await room.job()
    stream = room.history.follow_lines(job, 0)
    await room.log(job, 0)
    assert (await anext(stream)).content.step == 0
    for step in range(1, 1500, 100):
        await room.log(job, *range(step, step + 100))
    channel = room.news.lines._channels[job.id]
    assert len(channel.items) == 512, "the rest is in the store"
    await room.end(job)
    rest = [item.content.step async for item in stream if isinstance(item, Item)]
    assert rest == [*range(1, 1501)]


async def test_a_job_that_has_ended_is_told_whole_and_then_its_end(room):
    job = await room.job()
    await room.log(job, *range(1200))
    await room.end(job)
    assert await room.steps(job) == [*range(1200), "cancelled"]
    assert await room.steps(job, 10**9) == ["cancelled"]


async def test_a_stream_that_is_broken_off_never_says_that_it_is_over(room):
    """A daemon that stops ends the streams; whoever reads must come back for the rest."""
    job = await room.job()
    await room.log(job, *range(1000))
    stream = room.history.follow_lines(job, 0)
    told = [await anext(stream)]
    await room.end(job)
    room.news.close()
    told += [item async for item in stream]
    assert len(told) < 1000
    assert not any(isinstance(item, Over) for item in told)


async def test_the_stream_of_a_job_that_is_removed_breaks_off(room, monkeypatch):
    monkeypatch.setattr(feed_module, "_PAGE", 5)
    job = await room.job()
    await room.log(job, *range(20))
    stream = room.history.follow_lines(job, 0)
    told = [await anext(stream)]
    await room.end(job)
    await room.database.write(lambda c: pruning.remove_job(c, job.number))
    told += [item async for item in stream]
    assert len(told) < 20
    assert not any(isinstance(item, Over) for item in told)


async def test_closing_ends_waiting_streams_at_once_and_later_ones_too(room):
    job = await room.job()
    waiting = asyncio.create_task(room.steps(job))
    everything = asyncio.create_task(drain(room.history.follow_events(0, by=ROOT)))
    await asyncio.sleep(0.01)
    room.news.close()
    async with asyncio.timeout(30):
        assert await waiting == []
        await everything
        assert await room.steps(job) == []


async def drain(stream) -> list[object]:
    return [item async for item in stream]


async def test_events_of_one_job_end_with_it_and_those_of_all_go_on(room):
    job, other = await room.job(), await room.job()
    mine = asyncio.create_task(drain(room.history.follow_events(0, job=job, by=ROOT)))
    everything = room.history.follow_events(0, by=ROOT)
    await room.end(other)
    await room.end(job)
    async with asyncio.timeout(30):
        told = await mine
        assert [item.content.type for item in told[:-1]] == ["job.queued", "job.cancelled"]
        assert told[-1] == Over(JobState.CANCELLED)
        found = [await anext(everything) for _ in range(4)]
        assert [item.content.job_number for item in found] == [1, 2, 2, 1]
    await everything.aclose()
    assert room.news.events.followers == 0


async def test_news_of_a_change_that_was_undone_reach_nobody(room):
    job = await room.job()
    stream = room.history.follow_events(await room.history.last_event(), job=job, by=ROOT)

    def spoiled(connection):
        events.append(connection, NOW, EventType.JOB_WARNING, job.number)
        raise RuntimeError("no")

    next_one = asyncio.create_task(anext(stream))
    await asyncio.sleep(0.01)
    with pytest.raises(RuntimeError):
        await room.database.write(spoiled)
    await room.end(job)
    async with asyncio.timeout(30):
        assert (await next_one).content.type is EventType.JOB_CANCELLED
    await stream.aclose()


async def test_a_topic_nobody_follows_costs_nothing(room):
    job = await room.job()
    assert not room.news.lines.is_followed(job.id)
    await room.log(job, *range(5))
    assert room.news.lines._channels == {}


async def test_what_is_committed_while_the_store_is_read_is_not_missed():
    """The reading saw the state before, and nothing else will happen for long."""
    feed: Feed[str] = Feed()

    async def overtaken(after: int, limit: int) -> Page[str]:
        feed.publish("topic", [Item(1, "news")])
        return Page(())

    stream = feed.follow("topic", 0, overtaken, idle_seconds=60)
    async with asyncio.timeout(30):
        assert (await anext(stream)).content == "news"
    await stream.aclose()


async def test_silence_is_told_so_that_a_connection_can_be_kept_alive():
    async def nothing(after: int, limit: int) -> Page[str]:
        return Page(())

    feed: Feed[str] = Feed()
    stream = feed.follow("topic", 0, nothing, idle_seconds=0.01)
    async with asyncio.timeout(30):
        assert await anext(stream) is None
        feed.publish("topic", [Item(1, "news")])
        assert (await anext(stream)).content == "news"
    await stream.aclose()
    assert feed.followers == 0
