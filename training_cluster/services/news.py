"""Spreads committed facts: to the streams that follow them and to the loops that act on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from training_cluster.domain.event import ENDINGS, Event, EventType
from training_cluster.domain.metric import MetricLine
from training_cluster.services.feed import Feed, Item
from training_cluster.store.facts import Fact

EVERYTHING = ""
"""The topic of all events; the events and lines of one job have its id as topic."""


class News:
    """Told of every commit by the database. `watchers` are called with the facts of each."""

    def __init__(self) -> None:
        self.lines: Feed[MetricLine] = Feed()
        self.events: Feed[Event] = Feed()
        self.watchers: list[Callable[[Sequence[Fact]], None]] = []

    def tell(self, facts: Sequence[Fact]) -> None:
        """Hand on the facts of one commit, in order."""
        for fact in facts:
            if isinstance(fact, MetricLine):
                self._tell_line(fact)
            elif isinstance(fact, Event):
                self._tell_event(fact)
        for watcher in self.watchers:
            watcher(facts)

    def _tell_line(self, line: MetricLine) -> None:
        if self.lines.is_followed(line.job_id):
            self.lines.publish(line.job_id, [Item(line.sequence, line)])

    def _tell_event(self, event: Event) -> None:
        over = event.type in ENDINGS
        if self.events.is_followed(EVERYTHING):
            self.events.publish(EVERYTHING, [Item(event.sequence, event)])
        if event.job_id is None:
            return
        if event.type is EventType.JOB_RETRIED:
            self.events.reopen(event.job_id)
            self.lines.reopen(event.job_id)
        if self.events.is_followed(event.job_id):
            self.events.publish(event.job_id, [Item(event.sequence, event)], over=over)
        if over:
            self.lines.publish(event.job_id, (), over=True)

    def close(self) -> None:
        """End every stream."""
        self.lines.close()
        self.events.close()
