"""Watches the disk of the state directory: is it full, and is there room for another attempt."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import structlog

from training_cluster.domain.disk import DiskNeed, DiskRoom, DiskSpace, in_words
from training_cluster.domain.errors import (
    FieldProblem,
    ImpossibleRequest,
    StorageFull,
    TrainingClusterError,
)
from training_cluster.domain.event import EventType
from training_cluster.ports import Clock
from training_cluster.services.ballast import Ballast
from training_cluster.services.loop import Loop
from training_cluster.services.removal import measure
from training_cluster.store import disk_needs, events
from training_cluster.store.database import Database

log = structlog.get_logger(__name__)

_POLL_SECONDS, _FULL_POLL_SECONDS = 3.0, 1.0
_MIB = 1 << 20
_MOST_FULL_BYTES = 16 * _MIB
_STARVED_BYTES = 64 << 10  # too little for a runner's record of an end
HINT = "free space on the disk of the state directory; `training-cluster prune` shows what can go"


@dataclass(frozen=True, slots=True)
class DiskPolicy:
    """`reserve_bytes` no job may count on; `is_preflight` tells whether needs are looked at."""

    reserve_bytes: int = 0
    is_preflight: bool = True


class Disk(Protocol):
    """What the queue must know of the disk."""

    def room(self, connection: sqlite3.Connection) -> DiskRoom | None:
        """The room for new attempts; None when that is no question."""
        ...

    def require_room(self) -> None:
        """Raises StorageFull while the disk is full."""
        ...

    def require_bytes(self, count: int) -> None:
        """Raises StorageFull where so many bytes cannot be written now. Looks at the disk."""
        ...

    def require_possible(self, need: DiskNeed) -> None:
        """Raises ImpossibleRequest for a job that the whole disk could not hold."""
        ...


class Ample:
    """A disk that is never a question."""

    def room(self, connection: sqlite3.Connection) -> DiskRoom | None: ...

    def require_room(self) -> None: ...

    def require_bytes(self, count: int) -> None: ...

    def require_possible(self, need: DiskNeed) -> None: ...


class DiskWatch(Loop):
    """Reads the disk every few seconds; makes the ballast again once there is room for it."""

    name = "disk"

    def __init__(
        self,
        database: Database,
        ballast: Ballast,
        clock: Clock,
        folder: Path,
        policy: DiskPolicy,
    ) -> None:
        super().__init__()
        self._database = database
        self._ballast = ballast
        self._clock = clock
        self._folder = folder
        self._policy = policy
        self._written: Mapping[str, int] = {}
        self._told_full = False
        # full is less than this; enough is that and room for the ballast, so that it does not
        # come and go
        self._full_bytes = min(_MOST_FULL_BYTES, max(_MIB, ballast.size_bytes // 4))
        self._enough_bytes = 2 * self._full_bytes + ballast.size_bytes // 2
        self.on_change: Callable[[], None] = lambda: None
        self.space = _read(folder)
        self._is_full = not ballast.make() or self.space.free_bytes < self._full_bytes

    @property
    def is_full(self) -> bool:
        """Whether submissions are refused; from the first use of the ballast on, which would go to
        them otherwise."""
        return self._is_full or self._ballast.was_needed

    def delay(self) -> float | None:
        """Sooner while the disk is full."""
        return _FULL_POLL_SECONDS if self.is_full else _POLL_SECONDS

    async def run_once(self) -> None:
        """Read the disk, and what running attempts have written of what they need."""
        needs = await self._database.read(disk_needs.of_active)
        before = self.space
        self.space, self._written = await asyncio.to_thread(self._look, list(needs))
        was_full = self.is_full
        await asyncio.to_thread(self._decide)
        if self.is_full is not self._told_full:
            await self._tell()
        if was_full is not self.is_full or self.space.free_bytes > before.free_bytes + _MIB:
            self.on_change()

    def _look(self, directories: list[str]) -> tuple[DiskSpace, Mapping[str, int]]:
        written = {name: measure(Path(name)) for name in directories}
        return _read(self._folder), written

    def _decide(self) -> None:
        free = self.space.free_bytes
        self._is_full = self.is_full or free < self._full_bytes
        if not self._is_full:
            return
        missing = self._ballast.size_bytes - self._ballast.held_bytes
        if free >= self._enough_bytes + missing and self._ballast.make():
            self._ballast.was_needed = self._is_full = False
        elif free < _STARVED_BYTES:
            self._ballast.give()

    async def _tell(self) -> None:
        """One event a change; told at the next reading if it cannot be told now."""
        kind = EventType.DISK_FULL if self.is_full else EventType.DISK_RECOVERED
        data: dict[str, Any] = {
            "path": str(self._folder),
            "free_bytes": self.space.free_bytes,
            "total_bytes": self.space.total_bytes,
        }
        log.warning(kind.value, action=kind.value, **data)
        now, told = self._clock.now(), self.is_full
        try:
            await self._database.write(lambda c: events.append(c, now, kind, data=data))
        except TrainingClusterError as error:
            log.warning("not told yet", action="disk.untold", why=error.message)
        else:
            self._told_full = told

    def room(self, connection: sqlite3.Connection) -> DiskRoom | None:
        """The room for new attempts, what running ones are still to write taken off."""
        if not self._policy.is_preflight and not self.is_full:
            return None
        needs = disk_needs.of_active(connection).items()
        promised = sum(max(0, need - self._written.get(name, 0)) for name, need in needs)
        free = self.space.free_bytes
        available = free - promised - self._policy.reserve_bytes
        return DiskRoom(str(self._folder), available, free, promised, self.is_full)

    def require_room(self) -> None:
        """Raises StorageFull while the disk is full."""
        if self.is_full:
            raise StorageFull(
                f"the disk of {self._folder} is full; running jobs go on, nothing is lost",
                hint=HINT,
            )

    def require_bytes(self, count: int) -> None:
        """Raises StorageFull where so many bytes cannot be written now. What ends of jobs are
        recorded in, and the reserve, stay free."""
        kept = max(
            self._enough_bytes, self._policy.reserve_bytes if self._policy.is_preflight else 0
        )
        free = _read(self._folder).free_bytes
        if free < count + kept:
            raise StorageFull(
                f"{in_words(count)} do not fit: {in_words(free)} are free on the disk of "
                f"{self._folder}, of which {in_words(kept)} stay so",
                hint=HINT,
            )

    def require_possible(self, need: DiskNeed) -> None:
        """Raises ImpossibleRequest for a job that the whole disk could not hold."""
        most = self.space.total_bytes - self._policy.reserve_bytes
        if not self._policy.is_preflight or need.total_bytes <= most:
            return
        message = (
            f"the job would write about {in_words(need.total_bytes)}; the disk of the state "
            f"directory holds {in_words(self.space.total_bytes)} in all"
        )
        fitting = (most - need.other_bytes) // max(1, need.checkpoint_bytes)
        if 1 < fitting < need.checkpoints:
            expected = f"save_steps so large, or overrides.save_total_limit so small ({fitting - 1}"
            problem = FieldProblem("save_steps", message, expected + " at most), that it fits")
        else:
            problem = FieldProblem("model_name", message, "a smaller model, or LoRA")
        raise ImpossibleRequest(message, problems=(problem,))


def _read(folder: Path) -> DiskSpace:
    found = os.statvfs(folder)
    return DiskSpace(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)
