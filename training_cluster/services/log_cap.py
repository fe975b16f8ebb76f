"""Keeps the logs of running attempts from filling the disk, without breaking anybody's cursor.

A log that takes more than its share loses its middle: a hole is punched into the file. Its size
and all offsets stay, and the trainer's descriptor goes on writing at the end.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import stat
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import structlog

from training_cluster.services.log_files import LOG_NAME
from training_cluster.services.loop import Loop

log = structlog.get_logger(__name__)

_MIB = 1 << 20
_PAUSE_SECONDS = 10.0
_SOON_SECONDS = 2.0
_KEEP_SIZE, _PUNCH_HOLE = 0x01, 0x02  # linux/falloc.h
_UNSUPPORTED = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV})


class LogCap(Loop):
    """Looks after the logs of the attempts that run, and once more when they have ended.

    `directories` tells the attempts' directories. `most_bytes` is the disk one log may take;
    0 means any. The first MiB and the last part are kept."""

    name = "log cap"

    def __init__(
        self, directories: Callable[[], Awaitable[Iterable[Path]]], most_bytes: int
    ) -> None:
        super().__init__()
        self._directories = directories
        self._most_bytes = most_bytes
        self._before: frozenset[Path] = frozenset()
        self._pause_seconds = _PAUSE_SECONDS
        self._is_supported = most_bytes > 0

    def delay(self) -> float | None:
        """Sooner while a log comes near to its limit."""
        return self._pause_seconds if self._is_supported else None

    async def run_once(self) -> None:
        """Cut every log that takes too much."""
        if not self._is_supported:
            return
        now = frozenset(await self._directories())
        watched, self._before = now | self._before, now
        paths = [directory / LOG_NAME for directory in watched]
        is_near = await asyncio.to_thread(self._check, paths)
        self._pause_seconds = _SOON_SECONDS if is_near and now else _PAUSE_SECONDS

    def _check(self, paths: Iterable[Path]) -> bool:
        """Whether a log has used more than three quarters of what it may take."""
        taken = [self._cut(path) for path in paths]
        return any(size * 4 > self._most_bytes * 3 for size in taken)

    def _cut(self, path: Path) -> int:
        """The bytes on disk a log took, before its middle was given up."""
        try:
            taken = cut(path, self._most_bytes)
        except OSError as error:
            if error.errno in _UNSUPPORTED and self._is_supported:
                self._is_supported = False
                log.warning(
                    "logs grow without limit: this file system cannot free the middle of a file",
                    action="logs.unlimited",
                    path=str(path),
                    error=error.strerror,
                )
            return 0
        if taken > self._most_bytes:
            log.info("gave up the middle of a log", action="logs.cut", path=str(path), bytes=taken)
        return taken


def cut(path: Path, most_bytes: int) -> int:
    """Free the middle of a log if it takes more than `most_bytes` of disk; returns what it took.

    Afterwards it takes about half of that. Raises OSError where that cannot be done."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return 0  # no log yet, or something that is not ours to cut
    try:
        status = os.fstat(descriptor)
        taken = status.st_blocks * 512
        if stat.S_ISREG(status.st_mode) and taken > most_bytes:
            _punch(descriptor, *_middle(status, most_bytes))
        return taken
    finally:
        os.close(descriptor)


def _middle(status: os.stat_result, most_bytes: int) -> tuple[int, int]:
    """Begin and end of what is given up, in whole blocks: others would stay, as zeros."""
    block = max(status.st_blksize, 4096)
    first = min(_MIB, most_bytes // 4)
    last = status.st_size - most_bytes // 2
    return -(-first // block) * block, last // block * block


def _punch(descriptor: int, start: int, end: int) -> None:
    if end <= start:
        return
    try:
        fallocate = ctypes.CDLL(None, use_errno=True).fallocate
    except AttributeError as error:
        raise OSError(errno.ENOSYS, "there is no fallocate") from error
    fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    if fallocate(descriptor, _PUNCH_HOLE | _KEEP_SIZE, start, end - start) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
