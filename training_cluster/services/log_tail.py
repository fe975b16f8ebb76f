"""Reads one attempt's log as it grows, once for all who follow it.

The newest pieces are kept for a moment. A follower asks for the piece at its place; one that fell
behind what is kept reads the file itself up to where the tail is.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, TypeVar

from training_cluster.services.log_files import Part, last_line_end, read_text
from training_cluster.services.log_text import readable

T = TypeVar("T")

PIECE_BYTES = 64 << 10
_KEPT = 64
_BURST = 8
_BURST_PAUSE_SECONDS = 0.02
_BAR_SECONDS = 1.0
_BEGUN_ANEW = "[... this log was begun anew ...]\n"


class PieceKind(StrEnum):
    """What a follower is told."""

    LOG = "log"  # text; all of it put together is the readable log
    BAR = "bar"  # the present state of a line that is still being written
    ATTEMPT = "attempt"  # an attempt's log begins here
    END = "end"  # the job has ended, nothing follows; the text is its state


@dataclass(eq=False, slots=True)
class LogPiece:
    """One thing told of an attempt's log; following can go on at raw `offset`. `wire` is its form
    for streams, kept by whoever makes it first for all others."""

    kind: PieceKind
    attempt: int
    offset: int
    text: str = ""
    wire: bytes | None = None


class Place(NamedTuple):
    """A raw offset in a log, and how often that log had been begun anew."""

    generation: int
    offset: int


class Bell:
    """Wakes all who wait, any number of times."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Wake those who wait now."""
        event, self._event = self._event, asyncio.Event()
        event.set()

    async def wait(self, seconds: float) -> bool:
        """Whether it rang within that time."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return False
        return True


class LogTail:
    """The end of one attempt's log. `is_over` tells whether nothing more will be written.

    Pieces are kept from `place` on, once it is found (`begun`); the log has `size` raw bytes."""

    def __init__(
        self,
        path: Path,
        attempt: int,
        is_over: Callable[[], bool],
        threads: Executor,
        poll_seconds: float,
    ) -> None:
        self.path = path
        self.attempt = attempt
        self.place = Place(0, 0)
        self.size = 0
        self.begun = self.ended = False
        self.bar: LogPiece | None = None
        self.bell = Bell()
        self._is_over = is_over
        self._threads = threads
        self._poll_seconds = poll_seconds
        self._kept: dict[Place, tuple[LogPiece, Place]] = {}
        self._inode: int | None = None
        self._bar_at = -math.inf

    def at(self, place: Place) -> tuple[LogPiece, Place] | None:
        """The piece that begins at a place and the place behind it, if it is kept."""
        return self._kept.get(place)

    def begun_anew(self) -> tuple[LogPiece, Place]:
        """What a follower gets whose place is in a log that is no more."""
        anew = Place(self.place.generation, 0)
        return LogPiece(PieceKind.LOG, self.attempt, 0, _BEGUN_ANEW), anew

    async def run(self) -> None:
        """Find the end of the log, then read on until nothing more will be written."""
        if not self.begun:
            self.place = Place(0, await self._in_thread(lambda: last_line_end(self.path)))
        while not self.ended:
            over = self._is_over()  # asked before the reading: what is read then is complete
            more = await self._read_on(over)
            self.ended = over and not more
            if self.ended or not self.begun:
                self.begun = True
                self.bell.ring()
            if not self.ended:
                await asyncio.sleep(_BURST_PAUSE_SECONDS if more else self._poll_seconds)

    async def _read_on(self, over: bool) -> bool:
        """Read what came since the last time; returns whether there is more."""
        offset = self.place.offset
        parts = await self._in_thread(lambda: _read_parts(self.path, offset, over))
        if self._is_another(parts[0]):
            self._begin_anew(parts[0])
            return True
        self._inode, self.size = parts[0].inode, parts[-1].size
        for part in parts:
            self._keep(part)
        self._show_bar(b"" if over else parts[-1].rest)
        return len(parts) == _BURST

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def _is_another(self, part: Part) -> bool:
        replaced = self._inode not in (None, part.inode)
        return replaced or part.size < self.place.offset

    def _begin_anew(self, part: Part) -> None:
        before, self.bar = self.place, None
        self.place = Place(before.generation + 1, 0)
        self._inode, self.size = part.inode, part.size
        self._put(before, *self.begun_anew())

    def _keep(self, part: Part) -> None:
        if part.end == part.start:
            return
        before, self.place = self.place, Place(self.place.generation, part.end)
        self._put(before, LogPiece(PieceKind.LOG, self.attempt, part.end, part.text), self.place)

    def _put(self, before: Place, piece: LogPiece, behind: Place) -> None:
        if len(self._kept) == _KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[before] = (piece, behind)
        self.bell.ring()

    def _show_bar(self, state: bytes) -> None:
        """At most once a second, so that a bar costs followers next to nothing."""
        if not state:
            self.bar = None
        elif time.monotonic() - self._bar_at >= _BAR_SECONDS:
            text = readable(state)
            if self.bar is None or text != self.bar.text:
                self.bar = LogPiece(PieceKind.BAR, self.attempt, self.place.offset, text)
                self._bar_at = time.monotonic()
                self.bell.ring()


def _read_parts(path: Path, offset: int, over: bool) -> list[Part]:
    parts: list[Part] = []
    while len(parts) < _BURST:
        part = read_text(path, offset, most=PIECE_BYTES, whole=over)
        parts.append(part)
        if part.end == offset:
            break
        offset = part.end
    return parts
