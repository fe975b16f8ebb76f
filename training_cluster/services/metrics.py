"""Follows the progress logs of running attempts into the store, each line exactly once.

How far a log was read is stored in the transaction that stores what it said."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from training_cluster.domain.job import AttemptRef, Progress, TrainingPoint
from training_cluster.ports import Clock, Trainer
from training_cluster.services.loop import Loop
from training_cluster.store import attempts
from training_cluster.store.database import Database

_POLL_SECONDS = 0.5
_MOST_BYTES = 1 << 20


@dataclass(slots=True)
class Tail:
    """A progress log being followed."""

    ref: AttemptRef
    job_number: int
    path: Path
    offset: int = 0
    progress: Progress | None = None


class MetricsFollower(Loop):
    """One tail for each active attempt; sleeps when there is none."""

    name = "metrics"

    def __init__(self, database: Database, trainer: Trainer, clock: Clock) -> None:
        super().__init__()
        self._database = database
        self._trainer = trainer
        self._clock = clock
        self._tails: dict[AttemptRef, Tail] = {}

    def delay(self) -> float | None:
        """Only running attempts are polled."""
        return _POLL_SECONDS if self._tails else None

    def follow(self, ref: AttemptRef, job_number: int, directory: Path, offset: int = 0) -> Tail:
        """Begin to follow an attempt from a byte offset of its log."""
        tail = Tail(ref, job_number, self._trainer.progress_log(directory), offset)
        self._tails[ref] = tail
        self.wake()
        return tail

    def drop(self, ref: AttemptRef) -> None:
        """Stop following an attempt."""
        self._tails.pop(ref, None)

    async def run_once(self) -> None:
        """Store what the running attempts have logged since the last time."""
        for tail in list(self._tails.values()):
            await self.catch_up(tail)

    async def catch_up(self, tail: Tail) -> None:
        """Read one log to its end."""
        while (found := read_lines(tail.path, tail.offset)) is not None:
            lines, offset = found
            points = [point for line in lines if (point := self._trainer.parse(line)) is not None]
            await self._store(tail, points, offset)

    async def _store(self, tail: Tail, points: list[TrainingPoint], offset: int) -> None:
        now = self._clock.now()
        await self._database.write(
            lambda connection: attempts.record(
                connection, tail.job_number, tail.ref.number, points, offset, now
            )
        )
        tail.offset = offset
        if points:
            tail.progress = points[-1].progress


def read_lines(path: Path, offset: int) -> tuple[list[bytes], int] | None:
    """Complete lines behind `offset` and the offset behind them; None when there are none.

    The trainer writes from a thread: the last line may be there in part."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(_MOST_BYTES)
    except FileNotFoundError:
        return None
    end = data.rfind(b"\n") + 1
    if end == 0:
        return None
    return data[:end].splitlines(), offset + end
