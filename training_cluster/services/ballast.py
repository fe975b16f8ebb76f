"""A file that only takes room, so that there is some to give away when the disk is full.

What is written at the end of an attempt is small and must not be lost; it is given a slice of the
ballast at a time, because whoever filled the disk would take more at once.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

_LEAST_SLICE = 256 << 10
_SLICES = 32
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


class Ballast:
    """The file at `path` with `size_bytes` really allocated. Safe to use from any thread."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self.path = path
        self.size_bytes = size_bytes
        self.was_needed = False
        self._lock = threading.Lock()

    @property
    def held_bytes(self) -> int:
        """What it takes now."""
        try:
            return os.stat(self.path, follow_symlinks=False).st_size
        except OSError:
            return 0

    def make(self) -> bool:
        """Take the whole size; False when there is no room for it: then it stays as it was. Where
        files cannot be allocated at all there is none, which does not make the disk full."""
        with self._lock:
            held = self.held_bytes
            if held == self.size_bytes:
                return True
            try:
                self._allocate(held)
            except OSError as error:
                log.warning("no ballast", action="ballast.refused", error=error.strerror)
                if error.errno in _NO_ROOM:
                    return False
                self.size_bytes = held
            self.was_needed = False
            return True

    def _allocate(self, held: int) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self.path, flags, 0o600)
        try:
            if self.size_bytes < held:
                os.ftruncate(descriptor, self.size_bytes)
            elif self.size_bytes:
                os.posix_fallocate(descriptor, 0, self.size_bytes)
        except OSError:
            os.ftruncate(descriptor, held)  # a part may have been allocated
            raise
        finally:
            os.close(descriptor)

    def give(self) -> bool:
        """Let go of a slice because something could not be written; False when none is left."""
        with self._lock:
            self.was_needed = True
            held = self.held_bytes
            if held == 0:
                return False
            slice_bytes = max(_LEAST_SLICE, self.size_bytes // _SLICES)
            with contextlib.suppress(OSError):
                os.truncate(self.path, max(0, held - slice_bytes))
                log.warning("gave a slice", action="ballast.given", left=self.held_bytes)
                return True
            return False
