"""What has happened to a job, backwards: its events and what its trainer measured, as one row.

Events and metric lines are numbered apart. A place in the row is a number of each, below which all
of the past lies, so that a page goes on exactly where the one before it ended.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from dataclasses import dataclass

from training_cluster.domain.disclosure import event_for
from training_cluster.domain.event import ATTEMPT_ENDS, Event, EventType
from training_cluster.domain.job import Job
from training_cluster.domain.metric import MetricLine
from training_cluster.domain.principal import Principal
from training_cluster.store import events, metric_lines
from training_cluster.store.database import Database

NOW = 2**62
_BEGINNINGS = frozenset({EventType.JOB_QUEUED, EventType.JOB_STARTING, EventType.JOB_STARTED})


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a job's past: before it lie the events and the lines with smaller numbers."""

    event: int = NOW
    line: int = NOW


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened, and the place right behind it."""

    behind: Place
    what: Event | MetricLine


class Timeline:
    """Reads the past of jobs page by page."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def before(
        self, job: Job, place: Place, kinds: Collection[EventType], limit: int, by: Principal
    ) -> list[Moment]:
        """The latest moments before a place, newest first: events of these types as `by` may see
        them, and the trainer's lines."""

        def read(connection: sqlite3.Connection) -> list[Moment]:
            happened = events.before(connection, job.number, place.event, kinds, limit + 1)
            measured = metric_lines.before(connection, job.number, place.line, limit + 1)
            return _merged(happened, measured, limit)

        found = await self._database.read(read)
        return [seen for moment in found if (seen := _seen(moment, by)) is not None]


def _merged(happened: list[Event], measured: list[MetricLine], limit: int) -> list[Moment]:
    """By time; each kind keeps its own order whatever the clock did."""
    moments: list[Moment] = []
    while len(moments) < limit and (happened or measured):
        behind = Place(
            happened[0].sequence + 1 if happened else 0,
            measured[0].sequence + 1 if measured else 0,
        )
        event_is_later = not measured or (happened and _is_later(happened[0], measured[0]))
        what: Event | MetricLine = happened.pop(0) if event_is_later else measured.pop(0)
        moments.append(Moment(behind, what))
    return moments


def _is_later(event: Event, line: MetricLine) -> bool:
    """Whether an event came after a line. Lines are dated by whole seconds since the trainer
    began: of an attempt they lie between its beginning and its end all the same."""
    number = event.attempt_number or 0
    if event.type in _BEGINNINGS and number <= line.attempt_number:
        return False
    if event.type in ATTEMPT_ENDS and number >= line.attempt_number:
        return True
    return event.time >= line.time


def _seen(moment: Moment, by: Principal) -> Moment | None:
    if not isinstance(moment.what, Event):
        return moment
    event = event_for(moment.what, by)
    return None if event is None else Moment(moment.behind, event)
