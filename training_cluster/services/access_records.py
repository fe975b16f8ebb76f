"""Writes down who was not let in and when tokens were used: at most once a minute, so that no
request waits for it and nobody can fill the disk by knocking."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

import structlog

from training_cluster.domain.errors import TrainingClusterError
from training_cluster.domain.event import EventType
from training_cluster.ports import Clock
from training_cluster.services.failures import network_of
from training_cluster.services.loop import Loop
from training_cluster.services.tokens import Tokens
from training_cluster.store import events
from training_cluster.store import tokens as store
from training_cluster.store.database import Database

log = structlog.get_logger(__name__)

_EVERY_SECONDS = 60.0
_MOST_ADDRESSES = 16
_OTHERS = "other addresses"


@dataclass(slots=True)
class _Denials:
    """How often somebody was sent away, and why the last time."""

    count: int
    reason: str


class AccessRecords(Loop):
    """The loop behind `access.denied` and `last_used_at`."""

    name = "access"

    def __init__(self, database: Database, tokens: Tokens, clock: Clock) -> None:
        super().__init__()
        self._database = database
        self._tokens = tokens
        self._clock = clock
        self._denied: dict[str, _Denials] = {}
        self._used: dict[str, float] = {}
        self._written_at = float("-inf")
        tokens.on_use = self.used

    def denied(self, address: str, reason: str) -> None:
        """Somebody was not let in."""
        key = network_of(address)
        if key not in self._denied and len(self._denied) >= _MOST_ADDRESSES:
            key = _OTHERS
        self._hurry()
        known = self._denied.setdefault(key, _Denials(0, reason))
        known.count += 1
        known.reason = reason

    def used(self, token_id: str, moment: float) -> None:
        """A token was shown, at that time (Unix seconds)."""
        if token_id not in self._used:
            self._hurry()
        self._used[token_id] = moment

    def _hurry(self) -> None:
        if not self._denied and not self._used:
            self.wake()

    def delay(self) -> float | None:
        """A minute after the last writing, if there is anything to write."""
        if not self._denied and not self._used:
            return None
        return max(0.0, self._written_at + _EVERY_SECONDS - self._clock.monotonic())

    async def run_once(self) -> None:
        """Write what has come together, unless that was done within the last minute."""
        if self.delay() == 0.0:
            await self.write()

    async def write(self) -> None:
        """Write what has come together."""
        denied, self._denied = self._denied, {}
        used, self._used = self._used, {}
        self._written_at, now = self._clock.monotonic(), self._clock.now()

        def change(connection: sqlite3.Connection) -> None:
            store.mark_used(connection, used)
            for address, seen in denied.items():
                data = {"address": address, "count": seen.count, "reason": seen.reason}
                events.append(connection, now, EventType.ACCESS_DENIED, data=data)

        if denied or used:
            await self._database.write(change)
            self._tokens.mark_used(used)

    async def stop(self) -> None:
        """End, with everything written down."""
        await super().stop()
        try:
            await self.write()
        except TrainingClusterError:
            log.exception("not written down", action="access.records")
