"""Notices that the wall clock was set, and keeps durations what they are: deadlines in the store
move with it before anybody sees the new time."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

import structlog

from training_cluster.ports import SteppingClock
from training_cluster.services.loop import Loop
from training_cluster.store import clock as clock_store
from training_cluster.store.database import Database

log = structlog.get_logger(__name__)

_POLL_SECONDS = 5.0
# what is less is the slow correction of a clock that runs wrong
_STEP_SECONDS = 2.0


class ClockWatch(Loop):
    """Compares the system's clock with the daemon's. `wake` are those who sleep towards a time of
    day: they are woken to look again."""

    name = "clock"

    def __init__(
        self, database: Database, clock: SteppingClock, wake: Sequence[Callable[[], None]]
    ) -> None:
        super().__init__()
        self._database = database
        self._clock = clock
        self._sleepers = tuple(wake)

    def delay(self) -> float | None:
        """Every five seconds."""
        return _POLL_SECONDS

    async def run_once(self) -> None:
        """Follow the system's clock; a step takes the deadlines along."""
        seconds = self._clock.stepped_seconds()
        if abs(seconds) < _STEP_SECONDS:
            self._clock.shift(seconds)
            return
        await self._follow(seconds)
        log.warning("the clock was set", action="clock.stepped", seconds=round(seconds, 3))
        for wake in self._sleepers:
            wake()

    async def _follow(self, seconds: float) -> None:
        is_shifted = False

        def change(connection: sqlite3.Connection) -> None:
            # in the writer's thread: no other change sees deadlines and clock of different times
            nonlocal is_shifted
            clock_store.shift(connection, seconds, self._clock.now() + seconds)
            self._clock.shift(seconds)
            is_shifted = True

        try:
            await self._database.write(change)
        except Exception:
            if is_shifted:
                self._clock.shift(-seconds)
            raise
