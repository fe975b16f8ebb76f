"""Follows the progress logs of running attempts into the store, each line exactly once.

How far a log was read is stored in the transaction that stores what it said."""

from __future__ import annotations

import asyncio
import itertools
import os
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from training_cluster.crash_points import crash_point
from training_cluster.domain.job import AttemptRef, Checkpoint, Progress, TrainingPoint
from training_cluster.ports import Clock, Trainer
from training_cluster.services.loop import Loop
from training_cluster.store import progress
from training_cluster.store.database import Database
from training_cluster.store.progress import Limits, TimedPoint

_POLL_SECONDS = 0.5
_WATCHED_POLL_SECONDS = 0.1
_MOST_BYTES = 1 << 20
_LEAST_GAP_SECONDS = 0.001


@dataclass(slots=True)
class Tail:
    """A progress log being followed. `time` is that of its last line, in Unix seconds.

    The attempt goes on from the checkpoint `since`, after `elapsed_before` seconds of training.
    Of one that is `held` nothing is stored before its end."""

    ref: AttemptRef
    job_number: int
    path: Path
    offset: int = 0
    progress: Progress | None = None
    time: float = 0.0
    since: Checkpoint | None = None
    elapsed_before: float = 0.0
    held: bool = False
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)


class MetricsFollower(Loop):
    """One tail for each active attempt; sleeps when there is none.

    `has_watchers` tells whether somebody waits for news right now: then it looks more often."""

    name = "metrics"

    def __init__(
        self,
        database: Database,
        trainer: Trainer,
        clock: Clock,
        limits: Limits,
    ) -> None:
        super().__init__()
        self._database = database
        self._trainer = trainer
        self._clock = clock
        self._limits = limits
        self._tails: dict[AttemptRef, Tail] = {}
        self.has_watchers: Callable[[], bool] = lambda: False

    def delay(self) -> float | None:
        """Only running attempts are polled."""
        if not self._tails:
            return None
        return _WATCHED_POLL_SECONDS if self.has_watchers() else _POLL_SECONDS

    def follow(
        self,
        ref: AttemptRef,
        job_number: int,
        directory: Path,
        offset: int = 0,
        *,
        since: Checkpoint | None = None,
        elapsed_before: float = 0.0,
    ) -> Tail:
        """Begin to follow an attempt from a byte offset of its log."""
        path = self._trainer.progress_log(directory)
        tail = Tail(ref, job_number, path, offset, since=since, elapsed_before=elapsed_before)
        self._tails[ref] = tail
        self.wake()
        return tail

    def hold(self, ref: AttemptRef) -> None:
        """Store no more of an attempt that was told to save and stop: whatever it logs behind its
        last checkpoint will be logged again by the attempt that goes on from there."""
        if ref in self._tails:
            self._tails[ref].held = True

    def drop(self, ref: AttemptRef) -> None:
        """Stop following an attempt."""
        self._tails.pop(ref, None)

    async def run_once(self) -> None:
        """Store what the running attempts have logged since the last time."""
        for tail in list(self._tails.values()):
            if not tail.held:
                await self.catch_up(tail)

    async def catch_up(self, tail: Tail, last_step: int | None = None) -> None:
        """Read one log to its end, or what it says up to a step; waits for whoever is reading
        it."""
        async with tail.reading:
            while (found := read_lines(tail.path, tail.offset)) is not None:
                lines, offset, written_at = found
                points = [
                    point
                    for line in lines
                    if (point := self._point(tail, line)) is not None
                    and (last_step is None or point.progress.step <= last_step)
                ]
                latest = min(written_at, self._clock.now())
                await self._store(tail, timed(points, latest, tail.time), offset)

    def _point(self, tail: Tail, line: bytes) -> TrainingPoint | None:
        """What a line says, with the seconds of the whole job."""
        point = self._trainer.parse(line, tail.since)
        elapsed = None if point is None else point.progress.elapsed_seconds
        if point is None or elapsed is None or not tail.elapsed_before:
            return point
        progress = replace(point.progress, elapsed_seconds=tail.elapsed_before + elapsed)
        return replace(point, progress=progress)

    async def _store(self, tail: Tail, points: Sequence[TimedPoint], offset: int) -> None:
        stretch = (tail.offset, offset)

        def change(connection: sqlite3.Connection) -> int:
            key = (tail.job_number, tail.ref)
            read = progress.record(connection, *key, points, stretch, self._limits)
            crash_point("metrics.before_commit")
            return read

        tail.offset = await self._database.write(change)
        if points and tail.offset == offset:
            tail.progress, tail.time = points[-1][0].progress, points[-1][1]


def timed(points: Sequence[TrainingPoint], latest: float, earliest: float) -> list[TimedPoint]:
    """Points with the time each was logged: the log was last written at `latest`, and the points
    say in whole seconds how much time lay between them. Those of one second are spread over it.
    Each comes behind the one before, the first behind `earliest`, by what trackers can tell
    apart at least. Unix seconds."""
    found: list[TimedPoint] = []
    for gap, group in itertools.groupby(points, key=lambda point: _gap(points[-1], point)):
        together = list(group)
        end = max(latest - gap, earliest + _LEAST_GAP_SECONDS * len(together))
        begin = max(earliest, end - 1.0)
        for place, point in enumerate(together, 1):
            found.append((point, begin + (end - begin) * place / len(together)))
        earliest = end
    return found


def _gap(last: TrainingPoint, point: TrainingPoint) -> float:
    """Seconds from a point to the last one, as far as the trainer says."""
    end, elapsed = last.progress.elapsed_seconds, point.progress.elapsed_seconds
    return 0.0 if end is None or elapsed is None else max(0.0, end - elapsed)


def read_lines(path: Path, offset: int) -> tuple[list[bytes], int, float] | None:
    """Complete lines behind `offset`, the offset behind them and when the log was last written
    (Unix seconds); None when there are none.

    The trainer writes from a thread: the last line may be there in part."""
    try:
        if path.stat().st_size <= offset:
            return None
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(_MOST_BYTES)
            written_at = os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        return None
    end = data.rfind(b"\n") + 1
    if end == 0:
        return None
    return data[:end].splitlines(), offset + end, written_at
