"""Brings each tracker every line of every run, in order and once, however long it is away.

How far a tracker has come is in the store, and so is everything it has not been told: a tracker
that is down, hung or crashed is caught up with later and never holds up a job.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog

from training_cluster.domain.errors import (
    TrackerRefused,
    TrackerUnavailable,
    TrainingClusterError,
)
from training_cluster.domain.event import Event, EventType
from training_cluster.domain.job import Attempt, Job
from training_cluster.domain.metric import MetricLine
from training_cluster.ports import Clock, TrackedLine, Tracker
from training_cluster.services.loop import Loop
from training_cluster.services.run_records import (
    RunRecords,
    TrackingPlace,
    has_begun,
    is_over,
    run_key,
)
from training_cluster.store import attempts, datasets, events, jobs, tracker_runs
from training_cluster.store.database import Database
from training_cluster.store.facts import Fact
from training_cluster.store.tracker_runs import RunRow, RunState

log = structlog.get_logger(__name__)

_AT_A_TIME = 8
_LINES = 500
_LONGEST_BACK_OFF_SECONDS = 60.0
_OF_NO_RUN = frozenset({EventType.JOB_QUEUED, EventType.JOB_WARNING})
"""A job has no run before its first attempt; warnings are told by runs, not to them."""


@dataclass(frozen=True, slots=True)
class TrackerStanding:
    """How it is with a tracker, and since when (Unix seconds). `message` is for people."""

    name: str
    up: bool
    since: float
    message: str


@dataclass(frozen=True, slots=True)
class _Known:
    """A run with what the store knows of its job."""

    row: RunRow
    job: Job
    attempts: list[Attempt]
    dataset_sha256: str | None


class RunFeeder(Loop):
    """Feeds one tracker; several runs at a time, each in order."""

    def __init__(
        self,
        database: Database,
        tracker: Tracker,
        records: RunRecords,
        place: TrackingPlace,
        clock: Clock,
        *,
        pause_seconds: float = 1.0,
    ) -> None:
        super().__init__()
        self.name = f"tracker {tracker.name}"
        self._database = database
        self._tracker = tracker
        self._records = records
        self._place = place
        self._clock = clock
        self._pause_seconds = pause_seconds
        self._opened: set[str] = set()
        self._failures = 0
        self._message = ""
        self.standing = TrackerStanding(tracker.name, True, clock.now(), "not needed yet")
        self._more = False
        self._gone = False

    def delay(self) -> float | None:
        """After a failure the next try; else nothing happens without news."""
        if self._failures:
            return min(_LONGEST_BACK_OFF_SECONDS, 2.0 ** (self._failures - 1))
        return self._pause_seconds if self._more else None

    def hear(self, facts: Sequence[Fact]) -> None:
        """Wake up for lines, starts and endings."""
        if not self._failures and any(_concerns(fact) for fact in facts):
            self.wake()

    async def run_once(self) -> None:
        """Tell the tracker what it does not know yet."""
        rows = await self._database.read(lambda c: tracker_runs.to_do(c, self._tracker.name))
        self._more = False
        if not rows:
            return
        gate = asyncio.Semaphore(_AT_A_TIME)
        passes = (self._guarded(row, gate) for row in rows)
        results = await asyncio.gather(*passes, return_exceptions=True)
        failed = [result for result in results if isinstance(result, BaseException)]
        self._judge(failed)
        if not failed:
            self._more = any(result is True for result in results)
            await asyncio.sleep(self._pause_seconds)  # what comes meanwhile goes in one piece

    async def _guarded(self, row: RunRow, gate: asyncio.Semaphore) -> bool:
        async with gate:
            if self._gone:  # no use in asking for the other runs of this pass
                return False
            try:
                return await self._advance(row)
            except TrackerUnavailable as error:
                self._opened.clear()
                self._gone, self._message = True, error.message
                raise
            except TrackerRefused as error:
                await self._refuse(row, error.message)
                return False

    def _judge(self, failed: list[BaseException]) -> None:
        self._gone = False
        unexpected = [e for e in failed if not isinstance(e, TrainingClusterError)]
        for error in unexpected:
            log.error("unexpected", action="tracker.error", tracker=self._tracker.name,
                      exc_info=error)  # fmt: skip
        if failed:
            self._failures += 1
            self._stand(False, self._message)
        else:
            self._failures = 0
            self._stand(True, "up to date")

    def _stand(self, up: bool, message: str) -> None:
        before = self.standing
        since = before.since if before.up is up else self._clock.now()
        self.standing = TrackerStanding(self._tracker.name, up, since, message)
        if before.up and not up:
            log.warning(message, action="tracker.down", tracker=self._tracker.name)
        elif up and not before.up:
            log.info("back", action="tracker.up", tracker=self._tracker.name)

    async def _advance(self, row: RunRow) -> bool:
        """Open, send, finish: as far as it goes now. True when the run has come to its end, and
        so makes room for others that wait."""
        known = await self._database.read(lambda c: _known(c, row))
        if not has_begun(known.row, known.attempts):
            return False
        if known.row.state is RunState.WAITING or run_key(row) not in self._opened:
            await self._open(known)
            known = await self._database.read(lambda c: _known(c, row))
        over = is_over(known.row, known.job)  # looked at before the lines: none follow then
        sent = await self._send(known.row)
        if not over:
            return False
        known = replace(known, row=replace(known.row, sent_lines=known.row.sent_lines + sent))
        await self._finish(known)
        return True

    async def _open(self, known: _Known) -> None:
        row = known.row
        run = await asyncio.to_thread(
            self._records.describe,
            *(row, known.job, known.attempts, self._place, known.dataset_sha256),
        )
        opened = await self._tracker.open(run)
        now = self._clock.now()

        def change(connection: sqlite3.Connection) -> None:
            tracker_runs.opened(
                connection, row, opened.run_id, opened.url, opened.recorded, opened.warning
            )
            if opened.warning and opened.warning != row.message:
                self._warn(connection, row, opened.warning, now)

        await self._database.write(change)
        self._opened.add(run.key)

    async def _send(self, row: RunRow) -> int:
        """Send every line the tracker does not have; returns how many that were."""
        total = 0
        while found := await self._lines(row):
            await self._tracker.log(run_key(row), _positioned(found, row.sent_lines))
            row = await self._record_sent(row, found)
            total += len(found)
        return total

    async def _lines(self, row: RunRow) -> list[MetricLine]:
        return await self._database.read(
            lambda c: tracker_runs.lines(c, row, _LINES, after=row.sent_sequence)
        )

    async def _record_sent(self, row: RunRow, lines: list[MetricLine]) -> RunRow:
        count, last = len(lines), lines[-1].sequence
        await self._database.write(lambda c: tracker_runs.sent(c, row, count, last))
        return replace(row, sent_lines=row.sent_lines + count, sent_sequence=last)

    async def _finish(self, known: _Known) -> None:
        row = known.row
        ending = await asyncio.to_thread(
            self._records.ending, row, known.job, known.attempts, self._place
        )
        await self._tracker.finish(run_key(row), ending)
        await self._database.write(lambda c: tracker_runs.move(c, row, RunState.ENDED))
        self._opened.discard(run_key(row))

    async def _refuse(self, row: RunRow, message: str) -> None:
        now = self._clock.now()

        def change(connection: sqlite3.Connection) -> None:
            tracker_runs.move(connection, row, RunState.REFUSED, message)
            self._warn(connection, row, f"{self._tracker.name} does not take this run: {message}",
                       now)  # fmt: skip

        await self._database.write(change)
        log.warning(message, action="tracker.refused", tracker=self._tracker.name, job=row.job_id)

    def _warn(self, connection: sqlite3.Connection, row: RunRow, text: str, now: float) -> None:
        data = {"tracker": self._tracker.name, "message": text}
        kind = EventType.JOB_WARNING
        events.append(connection, now, kind, row.job_number, row.attempt_number, data)

    async def stop(self) -> None:
        """End; what the tracker lacks is sent by the next daemon."""
        await super().stop()
        with contextlib.suppress(TrainingClusterError):
            await self._tracker.close()


class Tracking:
    """All trackers of the daemon."""

    def __init__(self, feeders: Sequence[RunFeeder]) -> None:
        self._feeders = tuple(feeders)

    def states(self) -> tuple[TrackerStanding, ...]:
        """How it is with each tracker."""
        return tuple(feeder.standing for feeder in self._feeders)

    def hear(self, facts: Sequence[Fact]) -> None:
        """Told of every commit."""
        for feeder in self._feeders:
            feeder.hear(facts)

    async def start(self) -> None:
        """Begin to feed the trackers."""
        for feeder in self._feeders:
            await feeder.start()

    async def stop(self) -> None:
        """End; what a tracker lacks is sent by the next daemon."""
        await asyncio.gather(*(feeder.stop() for feeder in self._feeders))


def _concerns(fact: Fact) -> bool:
    if isinstance(fact, MetricLine):
        return True
    if not isinstance(fact, Event):
        return False
    return fact.job_id is not None and fact.type not in _OF_NO_RUN


def _known(connection: sqlite3.Connection, row: RunRow) -> _Known:
    job = jobs.find(connection, row.job_id)
    fresh = tracker_runs.find(connection, row)
    sha256 = datasets.sha256_of(connection, job.dataset_id) if job.dataset_id else None
    return _Known(fresh, job, attempts.of_job(connection, job.number), sha256)


def _positioned(lines: list[MetricLine], first: int) -> list[TrackedLine]:
    return [
        TrackedLine(first + index, line.step, line.time, line.values)
        for index, line in enumerate(lines)
    ]
