"""Following logs: every stream gets everything once, in order, however it comes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.factories import NOW
from training_cluster.domain.errors import JobNotFound
from training_cluster.domain.job import Attempt, AttemptRef, Job, JobState, Outcome
from training_cluster.domain.spec import JobSpec
from training_cluster.services import log_follow
from training_cluster.services.jobs import Overview
from training_cluster.services.log_files import LOG_NAME
from training_cluster.services.log_follow import LogFollow, Start
from training_cluster.services.log_tail import LogPiece, PieceKind
from training_cluster.services.log_text import readable


class Story:
    """A job whose attempts and logs the test writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.looks = 0
        job = Job(
            id="job-1",
            number=1,
            state=JobState.QUEUED,
            user="alice",
            spec=JobSpec(),
            priority=0,
            attempt_number=0,
            created_at=NOW,
        )
        self.overview = Overview(job, (), None, None)
        self.failure: Exception | None = None

    async def look(self, key: str) -> Overview:
        self.looks += 1
        assert key == "job-1"
        if self.failure is not None:
            raise self.failure
        return self.overview

    @property
    def log(self) -> Path:
        """Of the latest attempt."""
        return Path(self.overview.attempts[-1].directory) / LOG_NAME

    def begin(self) -> None:
        """A new attempt."""
        number = len(self.overview.attempts) + 1
        directory = self.folder / f"attempt-{number}"
        directory.mkdir()
        attempt = Attempt(
            ref=AttemptRef("job-1", number),
            directory=str(directory),
            device_uuids=(),
            created_at=NOW,
        )
        self._change(JobState.RUNNING, (*self.overview.attempts, attempt))

    def write(self, data: bytes) -> None:
        with self.log.open("ab") as file:
            file.write(data)

    def end(self, state: JobState, outcome: Outcome = Outcome.COMPLETED) -> None:
        """The attempt ends, and the job goes into a state."""
        *before, last = self.overview.attempts
        self._change(state, (*before, replace(last, ended_at=NOW, outcome=outcome)))

    def _change(self, state: JobState, attempts: tuple[Attempt, ...]) -> None:
        job = replace(self.overview.job, state=state, attempt_number=len(attempts))
        self.overview = Overview(job, attempts, None, None)


class Follower:
    """Somebody who follows, and keeps what comes."""

    def __init__(self, follow: LogFollow, story: Story, start: Start) -> None:
        self.pieces: list[LogPiece | None] = []
        self.may_read = asyncio.Event()
        self.may_read.set()
        self._stream = follow.follow(story.overview, start)
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for piece in self._stream:
            self.pieces.append(piece)
            await self.may_read.wait()

    def of(self, kind: PieceKind) -> list[LogPiece]:
        return [piece for piece in self.pieces if piece is not None and piece.kind is kind]

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.of(PieceKind.LOG))

    async def ended(self) -> str:
        """Wait for the end; the text."""
        await asyncio.wait_for(self.task, 20)
        return self.text


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


@pytest.fixture
async def follow(story: Story, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LogFollow]:
    monkeypatch.setattr(log_follow, "_LOOK_SECONDS", 0.02)
    made = LogFollow(story.look, poll_seconds=0.005, idle_seconds=0.05)
    yield made
    made.close()
    await until(lambda: made.followers == 0)


@pytest.fixture
def read(story: Story, follow: LogFollow) -> Callable[..., Follower]:
    return lambda **start: Follower(follow, story, Start(**start))


async def until(check: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not check():
            await asyncio.sleep(0.002)


async def test_a_log_is_followed_from_before_it_exists_to_the_end_of_the_job(story, read) -> None:
    reader = read()
    await until(lambda: None in reader.pieces)
    story.begin()
    await until(lambda: reader.of(PieceKind.ATTEMPT))
    for n in range(20):
        story.write(f"\x1b[32mstep {n}\x1b[0m\n".encode())
        await asyncio.sleep(0.002)
    story.write(b"the end")
    story.end(JobState.COMPLETED)
    text = "".join(f"step {n}\n" for n in range(20)) + "the end"
    assert await reader.ended() == text
    assert [piece.text for piece in reader.of(PieceKind.END)] == ["completed"]
    assert reader.pieces[-1] is reader.of(PieceKind.END)[0]


async def test_later_attempts_are_followed_too(story, read) -> None:
    story.begin()
    story.write(b"one")
    reader = read()
    await until(lambda: reader.of(PieceKind.BAR))
    story.end(JobState.QUEUED, Outcome.KILLED)
    await until(lambda: reader.text == "one")
    story.begin()
    story.write(b"two\n")
    story.end(JobState.FAILED)
    assert await reader.ended() == "onetwo\n"
    assert [p.attempt for p in reader.of(PieceKind.ATTEMPT)] == [1, 2]
    assert [(p.attempt, p.offset) for p in reader.of(PieceKind.LOG)] == [(1, 3), (2, 4)]


async def test_a_job_that_is_cancelled_in_the_queue_ends_its_streams(story, read) -> None:
    reader = read()
    story.overview = replace(
        story.overview, job=replace(story.overview.job, state=JobState.CANCELLED)
    )
    await reader.ended()
    assert [p.text for p in reader.of(PieceKind.END)] == ["cancelled"]


async def test_a_bar_is_shown_as_it_is_and_kept_in_its_last_state(story, read) -> None:
    story.begin()
    story.write(b"begin\n\r 10%")
    reader = read()
    await until(lambda: reader.of(PieceKind.BAR))
    for percent in range(11, 100):
        story.write(f"\r {percent}%".encode())
        await asyncio.sleep(0.001)
    story.write(b"\r100%\n")
    await until(lambda: reader.text.endswith("100%\n"))
    story.end(JobState.COMPLETED)
    assert await reader.ended() == "begin\n100%\n"
    assert [p.text for p in reader.of(PieceKind.BAR)] == [" 10%"], "at most one a second"


async def test_streams_of_one_job_share_what_is_read_and_looked_up(story, follow, read) -> None:
    story.begin()
    readers = [read() for _ in range(50)]
    await until(lambda: all(reader.of(PieceKind.ATTEMPT) for reader in readers))
    for n in range(20):
        story.write(f"{n}\n".encode())
        await asyncio.sleep(0.01)
    story.end(JobState.COMPLETED)
    looks = story.looks
    texts = [await reader.ended() for reader in readers]
    assert texts == ["".join(f"{n}\n" for n in range(20))] * 50
    assert looks < 50
    first = readers[0].of(PieceKind.LOG)
    assert all(reader.of(PieceKind.LOG) == first for reader in readers), "the same objects"
    assert follow.followers == 0


async def test_a_stream_that_falls_behind_loses_nothing_and_delays_nobody(story, read) -> None:
    story.begin()
    slow, quick = read(), read()
    await until(lambda: slow.pieces and quick.pieces)
    slow.may_read.clear()
    for n in range(300):
        story.write(f"{n}\n".encode())
        await until(lambda n=n: quick.text.endswith(f"{n}\n"))
    assert len(slow.of(PieceKind.LOG)) < 3
    slow.may_read.set()
    await until(lambda: slow.text == quick.text)
    story.write(b"last\n")
    story.end(JobState.COMPLETED)
    assert await slow.ended() == await quick.ended() == readable(story.log.read_bytes())


async def test_a_burst_of_megabytes_comes_whole(story, read) -> None:
    story.begin()
    reader = read()
    await until(lambda: reader.pieces)
    raw = b"".join(b"%099d\n" % n for n in range(100_000))
    story.write(raw)
    story.end(JobState.COMPLETED)
    assert await reader.ended() == raw.decode()


@pytest.mark.parametrize("seed", range(5))
async def test_going_on_from_any_piece_gives_the_whole(story, read, seed: int) -> None:
    import random

    chance = random.Random(seed)
    story.begin()
    whole, place = "", {}
    for n in range(40):
        story.write(f"\r {n}%\r {n + 1}%".encode() + b"\nline \xc3\xa4\n" * chance.randrange(3))
        reader = read(**place)
        await until(lambda reader=reader: reader.pieces)
        await asyncio.sleep(chance.random() / 50)
        reader.task.cancel()
        await asyncio.gather(reader.task, return_exceptions=True)
        if logs := reader.of(PieceKind.LOG):
            whole += reader.text
            place = {"attempt": 1, "offset": logs[-1].offset, "resumed": True}
    story.end(JobState.COMPLETED)
    whole += await read(**place).ended()
    assert whole == readable(story.log.read_bytes())


async def test_the_last_lines_come_first_when_they_are_asked_for(story, read) -> None:
    story.begin()
    story.write(b"1\n2\n3\n 4%")
    reader = read(tail=2)
    await until(lambda: reader.text == "2\n3\n")
    story.write(b"\r 5%\n6\n")
    story.end(JobState.COMPLETED)
    assert await reader.ended() == "2\n3\n 5%\n6\n"


@pytest.mark.parametrize("how", ["truncated", "replaced", "removed"])
async def test_a_log_that_is_begun_anew_is_read_from_its_start(story, read, how: str) -> None:
    story.begin()
    story.write(b"old 1\nold 2\n")
    reader, slow = read(), read()
    await until(lambda: reader.text and slow.text)
    slow.may_read.clear()
    if how == "truncated":
        os.truncate(story.log, 0)
    elif how == "removed":
        story.log.unlink()
    else:
        (story.folder / "new").write_bytes(b"new 0: longer than the old one\n")
        (story.folder / "new").rename(story.log)
    await until(lambda: "anew" in reader.text)
    story.write(b"new 1\n")
    await until(lambda: reader.text.endswith("new 1\n"))
    slow.may_read.set()
    story.end(JobState.COMPLETED)
    text = "old 1\nold 2\n[... this log was begun anew ...]\n" + story.log.read_text()
    assert await reader.ended() == text
    assert await slow.ended() == text


async def test_a_place_that_no_longer_exists_is_told(story, read) -> None:
    story.begin()
    story.write(b"1\n")
    story.end(JobState.COMPLETED)
    text = await read(attempt=1, offset=999, resumed=True).ended()
    assert text == "[... this log was begun anew ...]\n1\n"


async def test_a_store_that_is_away_only_delays_the_end(story, read) -> None:
    story.begin()
    reader = read()
    story.failure = RuntimeError("busy")
    await until(lambda: story.looks > 1)
    story.write(b"meanwhile\n")
    await until(lambda: reader.text)
    story.failure = None
    story.end(JobState.COMPLETED)
    assert await reader.ended() == "meanwhile\n"


async def test_the_streams_of_a_job_that_is_removed_end_without_an_end(story, follow, read) -> None:
    story.begin()
    story.write(b"one\n")
    running, waiting = read(), read(attempt=2)
    await until(lambda: running.text == "one\n")
    story.failure = JobNotFound("there is no job 1")
    assert await running.ended() == "one\n"
    await waiting.ended()
    assert not running.of(PieceKind.END) + waiting.of(PieceKind.END)
    await until(lambda: follow.followers == 0)


async def test_closing_ends_every_stream_and_leaves_no_task(story, follow, read) -> None:
    story.begin()
    story.write(b"1\n")
    before = len(asyncio.all_tasks())
    readers = [read() for _ in range(9)]
    await until(lambda: all(reader.text for reader in readers))
    follow.close()
    follow.close()
    for reader in readers:
        assert await reader.ended() == "1\n"
        assert reader.of(PieceKind.END) == []
    await until(lambda: len(asyncio.all_tasks()) == before)


async def test_whoever_leaves_is_forgotten(story, follow, read) -> None:
    story.begin()
    reader, other = read(), read()
    await until(lambda: reader.pieces and other.pieces)
    assert follow.followers == 2
    reader.task.cancel()
    await until(lambda: follow.followers == 1)
    other.task.cancel()
    await until(lambda: follow.followers == 0)
    looks = story.looks
    await asyncio.sleep(0.1)
    assert story.looks <= looks + 1, "nobody looks any more"
