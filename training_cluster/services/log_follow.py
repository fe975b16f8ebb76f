"""Follows a job's logs from any place through all its attempts, for a thousand streams at once.

Each followed job is looked at and each followed log is read by one task, however many follow.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import structlog

from training_cluster.domain.errors import JobNotFound
from training_cluster.domain.job import FINISHED, Attempt
from training_cluster.services.jobs import Overview
from training_cluster.services.log_files import LOG_NAME, read_text, tail_start
from training_cluster.services.log_tail import (
    PIECE_BYTES,
    Bell,
    LogPiece,
    LogTail,
    PieceKind,
    Place,
)

log = structlog.get_logger(__name__)

_POLL_SECONDS = 0.1
_LOOK_SECONDS = 0.5
_IDLE_SECONDS = 15.0

Look = Callable[[str], Awaitable[Overview]]


@dataclass(frozen=True, slots=True)
class Start:
    """Where to begin: in an attempt (None: the latest), at a raw offset or `tail` lines before
    the end. `resumed` tells that the attempt was announced before."""

    attempt: int | None = None
    offset: int = 0
    tail: int | None = None
    resumed: bool = False


class LogFollow:
    """Streams of jobs' logs. `look` finds a job by its id."""

    def __init__(
        self,
        look: Look,
        *,
        poll_seconds: float = _POLL_SECONDS,
        idle_seconds: float = _IDLE_SECONDS,
    ) -> None:
        self._look = look
        self._poll_seconds = poll_seconds
        self._idle_seconds = idle_seconds
        self._jobs: dict[Hashable, _Used[_Watch]] = {}
        self._logs: dict[Hashable, _Used[LogTail]] = {}
        # a thread of its own: followers do not wait for datasets that are being read
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="logs")
        self._closed = False

    @property
    def followers(self) -> int:
        """How many streams are open."""
        return sum(used.users for used in self._jobs.values())

    def close(self) -> None:
        """End every stream now. May be called twice."""
        self._closed = True
        for job in self._jobs.values():
            job.end()
        for tail in self._logs.values():
            tail.end()
        self._threads.shutdown(wait=False)

    async def follow(
        self, overview: Overview, start: Start
    ) -> AsyncGenerator[LogPiece | None, None]:
        """Everything from `start` on until the job has ended; None when nothing came for a while.

        Ends early when this is closed, or the job is removed."""
        # a job that is tried again after its end is followed apart from those who saw it end
        key, number = (overview.job.id, overview.job.counts_after), start.attempt
        with _using(self._jobs, key, lambda: _Watch(overview, self._look)) as job:
            if not job.is_finished:
                job.overview = overview
            while not self._closed:
                attempt = job.attempt_from(number)
                if attempt is not None:
                    async for piece in self._attempt(job, attempt, start):
                        yield piece
                    number, start = attempt.ref.number + 1, Start()
                elif job.is_finished:
                    if not job.is_gone:
                        yield LogPiece(PieceKind.END, 0, 0, job.overview.job.state.value)
                    return
                elif not await job.bell.wait(self._idle_seconds):
                    yield None

    async def _attempt(
        self, job: _Watch, attempt: Attempt, start: Start
    ) -> AsyncGenerator[LogPiece | None, None]:
        path = Path(attempt.directory) / LOG_NAME
        with _using(self._logs, path, lambda: self._tail(job, path, attempt)) as tail:
            while not tail.begun:
                if self._closed:
                    return
                await tail.bell.wait(self._idle_seconds)
            place = await _first_place(tail, start)
            if not start.resumed:
                yield LogPiece(PieceKind.ATTEMPT, tail.attempt, place.offset)
            bar = None
            while not self._closed:
                if found := await _next(tail, place):
                    piece, place = found
                    if piece.text:
                        yield piece
                elif tail.ended:
                    return
                elif tail.bar is not None and tail.bar is not bar:
                    yield (bar := tail.bar)
                elif not await tail.bell.wait(self._idle_seconds):
                    yield None

    def _tail(self, job: _Watch, path: Path, attempt: Attempt) -> LogTail:
        number = attempt.ref.number
        is_over = lambda: job.is_over(number)  # noqa: E731
        return LogTail(path, number, is_over, self._threads, self._poll_seconds)


class _Watch:
    """The latest known state of a followed job."""

    def __init__(self, overview: Overview, look: Look) -> None:
        self.overview = overview
        self.bell = Bell()
        self.is_gone = False
        self._look = look

    @property
    def is_finished(self) -> bool:
        """Whether nothing more comes: the job has ended, or was removed since it has."""
        return self.is_gone or self.overview.job.state in FINISHED

    def is_over(self, number: int) -> bool:
        """Whether an attempt has ended."""
        if self.is_finished:
            return True
        attempts = [a for a in self.overview.attempts if a.ref.number >= number]
        return len(attempts) > 1 or any(a.ended_at is not None for a in attempts)

    def attempt_from(self, number: int | None) -> Attempt | None:
        """The latest attempt, or the first one that is not before `number`."""
        if number is None:
            return self.overview.attempts[-1] if self.overview.attempts else None
        return next((a for a in self.overview.attempts if a.ref.number >= number), None)

    async def run(self) -> None:
        """Look until the job has ended."""
        while not self.is_finished:
            await asyncio.sleep(_LOOK_SECONDS)
            before = self.overview
            try:
                self.overview = await self._look(before.job.id)
            except JobNotFound:
                self.is_gone = True
            if self.is_finished or len(self.overview.attempts) > len(before.attempts):
                self.bell.ring()


async def _first_place(tail: LogTail, start: Start) -> Place:
    place = tail.place
    if start.tail is None:
        return Place(place.generation, start.offset)
    offset = await asyncio.to_thread(tail_start, tail.path, start.tail, before=place.offset)
    return Place(place.generation, offset)


async def _next(tail: LogTail, place: Place) -> tuple[LogPiece, Place] | None:
    """The piece at a place and the place behind it; None when there is none yet."""
    end = tail.place
    if (found := tail.at(place)) or place == end:
        return found
    if place.generation != end.generation or place.offset > tail.size:
        return tail.begun_anew()
    if place.offset > end.offset:  # in a line that is not complete yet
        return None
    part = await asyncio.to_thread(
        read_text, tail.path, place.offset, most=PIECE_BYTES, stop=end.offset, whole=tail.ended
    )
    if part.end <= place.offset:  # shorter by now: the tail will see it
        return None
    piece = LogPiece(PieceKind.LOG, tail.attempt, part.end, part.text)
    return piece, Place(place.generation, part.end)


class _Runs(Protocol):
    bell: Bell

    async def run(self) -> None: ...


T = TypeVar("T", bound=_Runs)


@dataclass(slots=True)
class _Used(Generic[T]):
    """Something that runs while somebody uses it."""

    thing: T
    task: asyncio.Task[None]
    users: int = 0

    def end(self) -> None:
        """Run no more, and wake those who wait."""
        self.task.cancel()
        self.thing.bell.ring()


@contextlib.contextmanager
def _using(shelf: dict[Hashable, _Used[T]], key: Hashable, make: Callable[[], T]) -> Iterator[T]:
    """The thing of that name, shared by all who use it, made for the first."""
    used = shelf.get(key)
    if used is None:
        thing = make()
        used = shelf[key] = _Used(thing, asyncio.create_task(_survive(thing, str(key))))
    used.users += 1
    try:
        yield used.thing
    finally:
        used.users -= 1
        if used.users == 0:
            del shelf[key]
            used.task.cancel()


async def _survive(thing: _Runs, name: str) -> None:
    """Run to the end; what goes wrong, such as a store that is busy, is tried again."""
    while True:
        try:
            return await thing.run()
        except Exception:
            log.exception("the logs go on", action="logs.follow", of=name)
            await asyncio.sleep(_LOOK_SECONDS)
