"""What comes is written in the order it came in, whatever ends the request that brings it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from training_cluster.services import incoming as module
from training_cluster.services.incoming import Incoming

PIECES = [bytes([number]) * 1000 for number in range(40)]


@pytest.mark.parametrize("cancelled_after", range(1, 20, 3))
async def test_a_cancel_in_the_middle_of_a_write_leaves_a_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cancelled_after: int
) -> None:
    monkeypatch.setattr(module, "_PIECE_BYTES", 1000)
    incoming = Incoming(tmp_path / "file", lambda size: time.sleep(0.003))  # a slow disk
    await incoming.open()

    async def stream():
        for number, piece in enumerate(PIECES):
            if number == cancelled_after:
                asyncio.get_running_loop().call_soon(task.cancel)
            yield piece

    task = asyncio.create_task(incoming.copy(stream()))
    with pytest.raises(asyncio.CancelledError):
        await task
    await incoming.flush()
    await incoming.close()
    written = (tmp_path / "file").read_bytes()
    assert len(written) == incoming.size_bytes
    assert written == b"".join(PIECES)[: len(written)]


async def test_closing_waits_for_the_thread_that_still_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PIECE_BYTES", 1000)
    incoming = Incoming(tmp_path / "file", lambda size: time.sleep(0.05))
    await incoming.open()
    await incoming.write(PIECES[0])
    flushing = asyncio.create_task(incoming.flush())
    await asyncio.sleep(0.01)
    flushing.cancel()
    await asyncio.wait({flushing})
    await incoming.close()
    assert (tmp_path / "file").read_bytes() == PIECES[0]
