"""Facts of a transaction: what a change recorded, handed on once it is committed.

A change tells facts while it runs; those of a change that is undone are forgotten with it.
"""

from __future__ import annotations

import sqlite3

from training_cluster.domain.event import Event
from training_cluster.domain.metric import MetricLine
from training_cluster.domain.webhook import OutboxFilled

Fact = Event | MetricLine | OutboxFilled


class FactConnection(sqlite3.Connection):
    """A connection that remembers the facts of its open transaction."""

    facts: list[Fact]


def tell(connection: sqlite3.Connection, fact: Fact) -> None:
    """Add a fact to the transaction under way."""
    if isinstance(connection, FactConnection):
        connection.facts.append(fact)
