"""How many event streams are open, and whose: one caller does not take all places."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import Depends, Request

from training_cluster.api.auth import Caller
from training_cluster.domain.errors import TooManyStreams

_RETRY_AFTER_SECONDS = 5


class OpenStreams:
    """Counts the streams of each caller, `most` of them at a time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: Counter[str] = Counter()

    def enter(self, name: str) -> None:
        """One more of this caller's. Raises TooManyStreams."""
        if self._open[name] >= self._most:
            raise TooManyStreams(
                f"{name} has {self._most} streams open, which is the most",
                retry_after_seconds=_RETRY_AFTER_SECONDS,
                hint="close one; one stream of /events tells of all jobs",
            )
        self._open[name] += 1

    def leave(self, name: str) -> None:
        """One less."""
        self._open[name] -= 1
        if not self._open[name]:
            del self._open[name]

    @contextmanager
    def place(self, name: str) -> Iterator[None]:
        """A place that is this caller's until the end of the block. Raises TooManyStreams."""
        self.enter(name)
        try:
            yield
        finally:
            self.leave(name)


async def _stream(request: Request, caller: Caller) -> AsyncIterator[None]:
    """A place for a stream, held until the answer has ended. Raises TooManyStreams."""
    streams: OpenStreams = request.app.state.streams
    with streams.place(caller.name):
        yield


HoldsStream = Annotated[None, Depends(_stream)]
"""For routes that answer with a stream."""
