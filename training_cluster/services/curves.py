"""Reads what a job measured: whole curves at the size of a screen, or its lines page by page."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial

from training_cluster.domain.job import Job
from training_cluster.domain.metric import Curve, MetricLine
from training_cluster.services.downsample import Thinner
from training_cluster.store import curves, jobs, metric_lines
from training_cluster.store.database import Database
from training_cluster.store.long_reads import LongReads

_POINTS_AT_A_TIME = 20_000


@dataclass(frozen=True, slots=True)
class Measured:
    """A job and the names of all its metrics, sorted."""

    job: Job
    names: tuple[str, ...]


class Curves:
    """A million lines are read on a thread beside all others, and never held in memory."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._long_reads = LongReads(database.path)

    async def measured(self, key: str) -> Measured:
        """A job by id or number, and what it has measured. Raises JobNotFound."""

        def query(connection: sqlite3.Connection) -> Measured:
            job = jobs.find(connection, key)
            return Measured(job, tuple(metric_lines.names(connection, job.number)))

        return await self._long_reads.read(query)

    async def job(self, key: str) -> Job:
        """A job by id or number. Raises JobNotFound."""
        return await self._database.read(lambda connection: jobs.find(connection, key))

    async def curves(
        self, job: Job, names: Sequence[str], most: int
    ) -> AsyncIterator[Sequence[Curve]]:
        """The curves of these metrics with at most `most` points each, some at a time."""
        size = max(1, _POINTS_AT_A_TIME // most)
        for start in range(0, len(names), size):
            part = names[start : start + size]
            yield await self._long_reads.read(partial(_curves, job=job, names=part, most=most))

    async def lines(self, job: Job, after: int, limit: int) -> list[MetricLine]:
        """The lines that hold behind a sequence number, in the order they were logged."""
        return await self._database.read(
            lambda connection: metric_lines.after(connection, job.number, after, limit)
        )

    def close(self) -> None:
        """Break off what is being read. May be called twice."""
        self._long_reads.close()


def _curves(
    connection: sqlite3.Connection, job: Job, names: Sequence[str], most: int
) -> list[Curve]:
    counts = curves.counts(connection, job.number, names)
    thinners = [Thinner(count, most) for count in counts]
    adds = [thinner.add for thinner in thinners]
    for step, time, *values in curves.rows(connection, job.number, names):
        for add, value in zip(adds, values, strict=True):
            if value is not None:
                add(step, time, value)
    return [_curve(name, thinner) for name, thinner in zip(names, thinners, strict=True)]


def _curve(name: str, thinner: Thinner) -> Curve:
    points = thinner.finish()
    steps, times, values = zip(*points, strict=True) if points else ((), (), ())
    return Curve(name, steps, times, values, thinner.total)
