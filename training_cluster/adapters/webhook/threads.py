"""Runs blocking calls in threads that nobody has to wait for, neither a caller nor an exit."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Busy(Exception):
    """As many calls as allowed are still running."""


class Threads:
    """One daemon thread a call, at most so many at once. The threads of a pool would be joined
    when the process ends, and a hanging name server would hold it up."""

    def __init__(self, name: str, most: int) -> None:
        self._name = name
        self._free = threading.BoundedSemaphore(most)

    async def run(self, call: Callable[[], T]) -> T:
        """The call's result or exception. A caller that is cancelled leaves it running.

        Raises Busy at once when too many calls hang."""
        if not self._free.acquire(blocking=False):
            raise Busy
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        thread = threading.Thread(
            target=self._work, args=(call, loop, future), name=self._name, daemon=True
        )
        try:
            thread.start()
        except BaseException:
            self._free.release()
            raise
        return await future

    def _work(
        self, call: Callable[[], T], loop: asyncio.AbstractEventLoop, future: asyncio.Future[T]
    ) -> None:
        try:
            result = call()
        except Exception as error:
            self._tell(loop, future, _fail, error)
        else:
            self._tell(loop, future, _succeed, result)
        finally:
            self._free.release()

    def _tell(
        self,
        loop: asyncio.AbstractEventLoop,
        future: asyncio.Future[T],
        how: Callable[[asyncio.Future[T], object], None],
        value: object,
    ) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(how, future, value)


def _succeed(future: asyncio.Future[T], value: object) -> None:
    if not future.done():
        future.set_result(value)  # type: ignore[arg-type]


def _fail(future: asyncio.Future[T], error: object) -> None:
    if not future.done():
        future.set_exception(error)  # type: ignore[arg-type]
