"""A loop works when woken, survives errors, and ends when told to, whatever else happens then."""

from __future__ import annotations

import asyncio

import pytest

from training_cluster.services.loop import Loop


class Counting(Loop):
    def __init__(self, pause: float | None = None) -> None:
        super().__init__()
        self.runs = 0
        self.pause = pause
        self.fails = False

    def delay(self) -> float | None:
        return self.pause

    async def run_once(self) -> None:
        self.runs += 1
        if self.fails:
            raise ValueError("broken")


@pytest.mark.parametrize("pause", [None, 30.0])
@pytest.mark.parametrize("turns", range(4))
async def test_a_wake_up_at_the_same_moment_does_not_keep_a_loop_from_ending(pause, turns):
    for _ in range(50):
        loop = Counting(pause)
        await loop.start()
        await asyncio.sleep(0)
        loop.wake()
        for _ in range(turns):
            await asyncio.sleep(0)
        async with asyncio.timeout(30):
            await loop.stop()
        assert not loop.alive


async def test_a_loop_works_at_once_then_when_woken_or_when_its_time_has_come():
    loop = Counting(None)
    await loop.start()
    await loop.start()
    await asyncio.sleep(0.01)
    assert loop.runs == 1
    loop.wake()
    await asyncio.sleep(0.01)
    assert loop.runs == 2
    loop.pause = 0.001
    loop.wake()
    await asyncio.sleep(0.05)
    assert loop.runs > 3
    await loop.stop()
    await loop.stop()
    before = loop.runs
    await asyncio.sleep(0.01)
    assert loop.runs == before


async def test_an_error_does_not_end_a_loop():
    loop = Counting(0.001)
    loop.fails = True
    await loop.start()
    await asyncio.sleep(0.01)
    loop.fails = False
    loop.wake()
    await asyncio.sleep(0.02)
    assert loop.runs > 2
    await loop.stop()
