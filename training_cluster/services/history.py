"""What has happened, from any point on and then as it happens: the streams of lines and events.

A stream reads the store up to the present and then follows the news; a daemon that is restarted
meanwhile goes on behind the number its reader names.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from training_cluster.domain.disclosure import event_for
from training_cluster.domain.errors import JobNotFound
from training_cluster.domain.event import Event, EventType
from training_cluster.domain.job import FINISHED, Job, JobState
from training_cluster.domain.metric import MetricLine
from training_cluster.domain.principal import Principal
from training_cluster.services.feed import Feed, Item, Page
from training_cluster.services.news import EVERYTHING, News
from training_cluster.store import events, jobs, metric_lines
from training_cluster.store.database import Database

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Over:
    """The job has ended, and everything there is was told."""

    status: JobState


Told = AsyncGenerator[Item[T] | Over | None, None]
"""Items in order, None when nothing has come for a while, and at last `Over` if the job has ended;
without it the stream was only broken off."""


class _Load(Generic[T]):
    """Pages of the store for one stream. `status` is that of the job at the last look."""

    def __init__(
        self,
        database: Database,
        job: Job | None,
        select: Callable[[sqlite3.Connection, int, int], list[Item[T]]],
    ) -> None:
        self._database = database
        self._job = job
        self._select = select
        self.status = job.state if job else None

    async def __call__(self, after: int, limit: int) -> Page[T]:
        return await self._database.read(lambda c: self._page(c, after, limit))

    def _page(self, connection: sqlite3.Connection, after: int, limit: int) -> Page[T]:
        if self._job is not None and self.status not in FINISHED:
            self.status = jobs.find(connection, self._job.id).state
        return Page(self._select(connection, after, limit), self.status in FINISHED)


class History:
    """Follows jobs and the whole daemon for hundreds of streams."""

    def __init__(self, database: Database, news: News) -> None:
        self._database = database
        self._news = news

    async def job(self, key: str) -> Job:
        """A job by id or number. Raises JobNotFound."""
        return await self._database.read(lambda connection: jobs.find(connection, key))

    async def events(
        self,
        after: int,
        limit: int,
        *,
        job: Job | None = None,
        kind: EventType | None = None,
        latest: bool = False,
        by: Principal,
    ) -> list[Event]:
        """Events behind a sequence number that `by` may see, oldest first: the first ones, or the
        latest."""
        select = _selecting(job, kind, by, latest=latest)
        found = await self._database.read(lambda c: select(c, after, limit))
        return _disclosed(found, by)

    async def last_event(self) -> int:
        """The number of the latest event."""
        return await self._database.read(events.last_sequence)

    def follow_lines(self, job: Job, after: int) -> Told[MetricLine]:
        """Every line of a job behind `after`, until it has ended."""

        def select(
            connection: sqlite3.Connection, after: int, limit: int
        ) -> list[Item[MetricLine]]:
            found = metric_lines.after(connection, job.number, after, limit)
            return [Item(line.sequence, line) for line in found]

        load = _Load(self._database, job, select)
        return _told(self._news.lines, job.id, after, load)

    def follow_events(
        self, after: int, *, job: Job | None = None, kind: EventType | None = None, by: Principal
    ) -> Told[Event]:
        """Every event behind `after`; those of one job until it has ended, those of the daemon
        for ever. They come whole: `event_for` says what of them `by` may see."""
        find = _selecting(job, kind, by)

        def select(connection: sqlite3.Connection, after: int, limit: int) -> list[Item[Event]]:
            return [Item(event.sequence, event) for event in find(connection, after, limit)]

        load = _Load(self._database, job, select)
        return _told(self._news.events, job.id if job else EVERYTHING, after, load)


def _selecting(
    job: Job | None, kind: EventType | None, by: Principal, *, latest: bool = False
) -> Callable[[sqlite3.Connection, int, int], list[Event]]:
    number = job.number if job else None
    reader = None if by.is_admin else by.name
    return lambda connection, after, limit: events.page(
        connection, after, limit, job_number=number, kind=kind, latest=latest, but_secret_to=reader
    )


def _disclosed(found: list[Event], by: Principal) -> list[Event]:
    seen = (event_for(event, by) for event in found)
    return [event for event in seen if event is not None]


async def _told(feed: Feed[T], topic: str, after: int, load: _Load[T]) -> Told[T]:
    with suppress(JobNotFound):  # removed meanwhile: broken off, and not found from then on
        async with aclosing(feed.follow(topic, after, load)) as found:
            async for item in found:
                yield item
                after = after if item is None else item.sequence
        if load.status is None:
            return
        # a feed that was closed breaks streams off in the middle
        rest = await load(after, 1)
        if rest.over and not rest.items:
            yield Over(load.status)
