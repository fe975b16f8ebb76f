"""Reads logs: parts by raw offset, the last lines, and past the middle that was given up.

A log that takes too much disk has a hole in its middle; its size and all offsets stay. A reader
gets one line in place of the hole.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from training_cluster.services.log_text import divisible, last_state, readable

LOG_NAME = "trainer.log"
MOST_BYTES = 4 << 20
_BLOCK = 64 << 10
_TRIES = 3
_MOST_HOLES = 1000
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Part:
    """Text of a log between two raw offsets; reading goes on at `end`.

    `rest` is the present state of the line that is being written there, raw. `size` is the raw
    size of the log, `inode` is None when there is no log (yet)."""

    text: str
    start: int
    end: int
    size: int
    rest: bytes = b""
    inode: int | None = None


class LogFile:
    """An open log. Its size is the one it had when it was opened."""

    def __init__(self, descriptor: int, status: os.stat_result) -> None:
        self._descriptor = descriptor
        self.size = status.st_size
        self.inode = status.st_ino

    def read(self, start: int, length: int) -> bytes:
        """Raw bytes; a hole reads as zeros."""
        return os.pread(self._descriptor, length, start)

    def stretch(self, offset: int) -> tuple[int, int]:
        """Begin and end of the next bytes, at or after `offset`, that were not given up."""
        try:
            start = os.lseek(self._descriptor, offset, os.SEEK_DATA)
            end = os.lseek(self._descriptor, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole up to the end
                return self.size, self.size
            return offset, self.size  # a file system that knows no holes
        return min(start, self.size), min(end, self.size)

    def read_kept(self, offset: int, length: int) -> tuple[int, bytes, bool]:
        """Where the next kept bytes begin, these bytes, and whether a hole comes after them."""
        for _ in range(_TRIES):
            start, end = self.stretch(offset)
            data = self.read(start, min(length, end - start))
            # zeros may be bytes that were given up between the look and the reading
            if b"\0" not in data or self.stretch(offset) == (start, end):
                break
        return start, data, start + len(data) == end < self.size


@contextlib.contextmanager
def opened(path: Path) -> Iterator[LogFile | None]:
    """A log for reading; None when there is none. What is not a plain file is no log."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags)
    except OSError:
        yield None
        return
    try:
        status = os.fstat(descriptor)
        yield LogFile(descriptor, status) if stat.S_ISREG(status.st_mode) else None
    finally:
        os.close(descriptor)


def read_text(
    path: Path,
    offset: int,
    *,
    most: int = MOST_BYTES,
    stop: int | None = None,
    whole: bool = False,
) -> Part:
    """Complete lines from raw `offset` on, made of at most `most` raw bytes.

    `stop` is an offset where an earlier part ended: all before it is taken. With `whole` nothing
    more will be written: the last line counts even if it has no line end. Text is empty where
    only overwritten states of a progress bar were passed."""
    with opened(path) as file:
        if file is None:
            return Part("", 0, 0, 0)
        limit = file.size if stop is None else min(stop, file.size)
        if offset >= limit:
            end = min(offset, file.size)
            return Part("", end, end, file.size, b"", file.inode)
        bound = limit if whole or stop is not None else None
        return _part(file, offset, limit, most, bound, whole)


def _part(
    file: LogFile, offset: int, limit: int, most: int, bound: int | None, whole: bool
) -> Part:
    start, data, before_hole = file.read_kept(offset, most)
    if start >= limit:  # all that is left was given up
        return Part(given_up(limit - offset), offset, limit, file.size, b"", file.inode)
    if start + len(data) > limit:
        data, before_hole = data[: limit - start], False
    at_bound = before_hole or start + len(data) == bound
    taken, shown = _take(data, len(data) == most, at_bound, whole or before_hole)
    text = readable(data[:shown])
    if before_hole and not text.endswith("\n"):
        text += "\n"
    if start > offset:
        text = given_up(start - offset) + text
    at_end = not at_bound and start + len(data) == limit
    rest = data[taken + last_state(data[taken:]) :] if at_end else b""
    return Part(text, offset, start + taken, file.size, rest, file.inode)


def _take(data: bytes, full: bool, at_bound: bool, whole: bool) -> tuple[int, int]:
    """How much of `data` to pass over and how much of that to show."""
    lines = data.rfind(b"\n") + 1
    if at_bound:
        overwritten = not whole and data.endswith(b"\r")
        return len(data), lines if overwritten else len(data)
    if lines or not full:
        return lines, lines
    state = last_state(data)
    if state:
        return state, 0
    cut = divisible(data)
    return cut, cut


def given_up(count: int) -> str:
    """The line that stands for bytes that are no longer there."""
    size = f"{count / _MIB:.0f} MiB" if count >= _MIB else f"{count} bytes"
    return f"[... {size} of this log were given up ...]\n"


def read_raw(path: Path, offset: int, most: int) -> tuple[bytes, int]:
    """Bytes as they were written, and the offset behind them; what was given up reads as zeros."""
    with opened(path) as file:
        if file is None:
            return b"", 0
        start = min(offset, file.size)
        data = file.read(start, min(most, file.size - start))
        return data, start + len(data)


def tail_start(path: Path, lines: int, *, before: int | None = None, is_over: bool = True) -> int:
    """Where the last `lines` lines before an offset begin, at most 4 MiB before it.

    A hole in the way counts as a line, and as the first one. The last 0 lines of a log that is
    not over begin where its unfinished line does."""
    if lines == 0 and not is_over:
        return last_line_end(path)
    with opened(path) as file:
        if file is None:
            return 0
        end = file.size if before is None else min(before, file.size)
        return _tail_start(file, end, lines) if lines else end


def last_line_end(path: Path) -> int:
    """Where the last complete line of a log ends."""
    with opened(path) as file:
        if file is None or file.size == 0:
            return 0
        if file.read(file.size - 1, 1) == b"\n":
            return file.size
        return _tail_start(file, file.size, 1)


def _tail_start(file: LogFile, end: int, lines: int) -> int:
    """Looks back block by block; a line end right before `end` does not count."""
    position, missing = end, lines
    floor = max(0, end - MOST_BYTES)
    while position > floor:
        start = max(floor, position - _BLOCK)
        kept = _after_hole(file, start, position)
        data = file.read(kept, position - kept)
        if position == end:
            data = data[:-1]
        found = data.count(b"\n")
        if found >= missing:
            return kept + _nth_last(data, missing) + 1
        if kept > start:
            return _hole_start(file, kept)
        missing -= found
        position = start
    return floor and floor + _line_start(file.read(floor, end - floor))


def _line_start(data: bytes) -> int:
    """Where something begins that is not the rest of a line: a line, or a state of a bar."""
    return data.find(b"\n", 0, len(data) - 1) + 1 or last_state(data)


def _after_hole(file: LogFile, start: int, end: int) -> int:
    """Where the bytes begin that reach up to `end` without a hole, `start` at the earliest."""
    position = start
    for _ in range(_MOST_HOLES):
        begin, stop = file.stretch(position)
        if stop >= end or begin >= end:
            return min(begin, end)
        position = stop
    return end


def _hole_start(file: LogFile, hole_end: int) -> int:
    """Where the hole begins that ends at `hole_end`."""
    position = 0
    for _ in range(_MOST_HOLES):
        begin, stop = file.stretch(position)
        if begin >= hole_end:
            return position
        position = stop
    return hole_end


def _nth_last(data: bytes, count: int) -> int:
    at = len(data)
    for _ in range(count):
        at = data.rfind(b"\n", 0, at)
    return at
