"""Writes a stream to a file: in large pieces, on a thread, one piece ahead of the stream."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

_PIECE_BYTES = 4 << 20


class Incoming:
    """A file that grows at its end. At most two pieces of 4 MiB are in memory: whoever sends
    faster than the disk takes it waits. `check` is called, on a thread, before each piece with
    its size in bytes and may raise."""

    def __init__(self, path: Path, check: Callable[[int], None] = lambda size: None) -> None:
        self.path = path
        self.size_bytes = 0
        self._check = check
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._writing: asyncio.Task[None] | None = None
        self._descriptor = -1
        self._written = 0

    async def open(self) -> None:
        """Open the file, which is made; what is in it stays. Raises OSError."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = await asyncio.to_thread(os.open, self.path, flags, 0o600)
        self.size_bytes = self._written = os.fstat(self._descriptor).st_size

    async def write(self, data: bytes) -> None:
        """Take in more. Raises OSError and what `check` raises, also for what came before."""
        self._pending.append(data)
        self._pending_bytes += len(data)
        self.size_bytes += len(data)
        if self._pending_bytes >= _PIECE_BYTES:
            await self._flush()

    async def copy(self, stream: AsyncIterator[bytes]) -> None:
        """Take in a whole stream."""
        async for data in stream:
            await self.write(data)

    async def cut(self, size_bytes: int = 0) -> None:
        """Forget what is behind a place."""
        await self.flush()
        await asyncio.to_thread(os.ftruncate, self._descriptor, size_bytes)
        self.size_bytes = self._written = size_bytes

    async def flush(self) -> None:
        """Hand all that has come to the system: a process that dies loses none of it."""
        await self._flush()
        await self._flush()

    async def finish(self) -> None:
        """Write what is left; durable when this returns."""
        await self.flush()
        await asyncio.to_thread(os.fsync, self._descriptor)

    async def close(self) -> None:
        """Let go of the file, written or not. May be called twice."""
        if (writing := self._writing) is not None:
            await asyncio.wait({writing})
            self._writing = None
            writing.exception()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    async def _flush(self) -> None:
        if (writing := self._writing) is not None:
            # who is cancelled here leaves it to whoever flushes or closes next: its thread goes on
            await asyncio.shield(writing)
            self._writing = None
        pieces, self._pending, self._pending_bytes = self._pending, [], 0
        if pieces:
            self._writing = asyncio.create_task(asyncio.to_thread(self._write, pieces))

    def _write(self, pieces: list[bytes]) -> None:
        size = sum(map(len, pieces))
        self._check(size)
        for piece in pieces:
            view = memoryview(piece)
            while view:
                view = view[os.write(self._descriptor, view) :]
        # has the kernel begin to write now, so that little is left for the flush at the end
        os.posix_fadvise(self._descriptor, self._written, size, os.POSIX_FADV_DONTNEED)
        self._written += size
