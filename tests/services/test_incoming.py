"""What comes is written in the order it came in, whatever ends the request that brings it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.daemon_process import eventually
from training_cluster.services import incoming as module
from training_cluster.services.incoming import Incoming

PIECES = [bytes([number]) * 1000 for number in range(20)]


class HeldDisk:
    """A disk that keeps the write of one piece waiting until it is let go."""

    def __init__(self, number: int) -> None:
        self.begun, self.may_go = threading.Event(), threading.Event()
        self._number, self._writes = number, 0

    def write(self, size: int) -> None:
        self._writes += 1
        if self._writes == self._number:
            self.begun.set()
            assert self.may_go.wait(20)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PIECE_BYTES", 1000)


async def cancelled_within(incoming: Incoming, disk: HeldDisk) -> None:
    """Have a stream come, and its request end while the disk holds the write of a piece."""

    async def stream() -> AsyncIterator[bytes]:
        for piece in PIECES:
            yield piece

    task = asyncio.create_task(incoming.copy(stream()))
    await asyncio.to_thread(eventually, disk.begun.is_set)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def other_threads_had_their_turn() -> None:
    """What was handed to threads before this has been begun."""
    for _ in range(20):
        await asyncio.to_thread(lambda: None)


@pytest.mark.parametrize("held", [1, 2, 7, 19])
async def test_a_cancel_in_the_middle_of_a_write_leaves_a_beginning(tmp_path: Path, held: int):
    disk = HeldDisk(held)
    incoming = Incoming(tmp_path / "file", disk.write)
    await incoming.open()
    await cancelled_within(incoming, disk)
    flushing = asyncio.create_task(incoming.flush())
    await other_threads_had_their_turn()
    disk.may_go.set()
    await flushing
    await incoming.close()
    written = (tmp_path / "file").read_bytes()
    assert len(written) == incoming.size_bytes
    assert len(written) >= held * 1000
    assert written == b"".join(PIECES)[: len(written)]


async def test_closing_waits_for_the_thread_that_still_writes(tmp_path: Path):
    disk = HeldDisk(1)
    incoming = Incoming(tmp_path / "file", disk.write)
    await incoming.open()
    await cancelled_within(incoming, disk)
    closing = asyncio.create_task(incoming.close())
    await other_threads_had_their_turn()
    disk.may_go.set()
    await closing
    assert (tmp_path / "file").read_bytes() == PIECES[0]
