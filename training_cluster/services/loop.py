"""The seam every background component has: `run_once()` works, the loop wakes it and survives."""

from __future__ import annotations

import asyncio
import contextlib

import structlog

log = structlog.get_logger(__name__)

_AFTER_ERROR_SECONDS = 1.0


class Loop:
    """Runs `run_once()` whenever it is woken, and after `delay()` seconds at the latest.

    start() and stop() may be called twice. An error is logged and the loop goes on.
    """

    name = "loop"

    def __init__(self) -> None:
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def run_once(self) -> None:
        """Do what there is to do now."""
        raise NotImplementedError

    def delay(self) -> float | None:
        """Seconds until the next run if nobody wakes the loop; None waits for a wake-up."""
        return None

    def wake(self) -> None:
        """Have `run_once()` called soon."""
        self._wake.set()

    @property
    def alive(self) -> bool:
        """True between start() and stop()."""
        return self._task is not None and not self._task.done()

    async def start(self) -> None:
        """Begin to run."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=self.name)

    async def stop(self) -> None:
        """End after the work at hand."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        while True:
            pause = self.delay()
            try:
                await self.run_once()
                pause = self.delay()
            except Exception:
                log.exception("the loop goes on", action="loop.error", loop=self.name)
                pause = _AFTER_ERROR_SECONDS
            with contextlib.suppress(TimeoutError):  # wait_for of Python 3.11 may swallow a cancel
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            self._wake.clear()
