"""Hands committed facts on to whoever follows them, hundreds of streams at a time.

A channel keeps the latest items of one topic while somebody follows it. Followers wait on it
together and share its items; one that falls behind what is kept reads the store instead.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

_KEPT = 512
_PAGE = 500
_IDLE_SECONDS = 15.0


@dataclass(slots=True)
class Item(Generic[T]):
    """One thing told on a topic: its number in the store, which grows, and what it is. `wire`
    is its form for streams, kept by whoever makes it first for all others."""

    sequence: int
    content: T
    wire: bytes | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """What the store knows behind a number. `over` tells that nothing will ever follow."""

    items: Sequence[Item[T]]
    over: bool = False


Load = Callable[[int, int], Awaitable[Page[T]]]
"""From a sequence number and a limit to what the store has behind it."""


class Channel(Generic[T]):
    """The latest items of a topic."""

    def __init__(self) -> None:
        self.items: deque[Item[T]] = deque(maxlen=_KEPT)
        self.dropped_below = 0
        self.followers = 0
        self.over = False
        self.news = asyncio.Event()

    def put(self, items: Sequence[Item[T]], *, over: bool) -> None:
        """Add items and wake the followers."""
        for item in items:
            if len(self.items) == _KEPT:
                self.dropped_below = self.items[0].sequence
            self.items.append(item)
        self.over = self.over or over
        news, self.news = self.news, asyncio.Event()
        news.set()

    def after(self, sequence: int) -> list[Item[T]]:
        """Kept items behind a number, oldest first."""
        found: list[Item[T]] = []
        for item in reversed(self.items):
            if item.sequence <= sequence:
                break
            found.append(item)
        found.reverse()
        return found


class Feed(Generic[T]):
    """Channels by topic; a topic without followers costs nothing. `on_join` is called for each
    new follower: who makes the items may want to hurry from now on."""

    def __init__(self) -> None:
        self._channels: dict[str, Channel[T]] = {}
        self._closed = False
        self.on_join: Callable[[], None] = lambda: None

    @property
    def followers(self) -> int:
        """How many follow, all topics together."""
        return sum(channel.followers for channel in self._channels.values())

    def is_followed(self, topic: str) -> bool:
        """Whether it is worth making items for a topic."""
        return topic in self._channels

    def publish(self, topic: str, items: Sequence[Item[T]], *, over: bool = False) -> None:
        """Tell the followers of a topic; `over` ends their streams when they have read it all."""
        channel = self._channels.get(topic)
        if channel is not None:
            channel.put(items, over=over)

    def reopen(self, topic: str) -> None:
        """A topic that was over goes on: those who come now follow it."""
        channel = self._channels.get(topic)
        if channel is not None:
            channel.over = False

    async def follow(
        self, topic: str, after: int, load: Load[T], idle_seconds: float = _IDLE_SECONDS
    ) -> AsyncGenerator[Item[T] | None, None]:
        """Everything behind `after`, from the store and then as it happens; None whenever
        nothing came for `idle_seconds`. Ends when the topic is over or the feed is closed."""
        with self._join(topic) as channel:
            behind = True
            while not self._closed:
                news = channel.news
                if behind or after < channel.dropped_below:
                    page = await load(after, _PAGE)
                    found, behind = page.items, len(page.items) == _PAGE
                    over = page.over and not behind
                else:
                    found, over = channel.after(after), channel.over
                for item in found:
                    yield item
                    after = item.sequence
                if over:
                    return
                if not found and not behind and not await _within(news, idle_seconds):
                    yield None

    @contextlib.contextmanager
    def _join(self, topic: str) -> Iterator[Channel[T]]:
        channel = self._channels.setdefault(topic, Channel())
        channel.followers += 1
        self.on_join()
        try:
            yield channel
        finally:
            channel.followers -= 1
            if channel.followers == 0:
                self._channels.pop(topic, None)

    def close(self) -> None:
        """End every stream."""
        self._closed = True
        for channel in list(self._channels.values()):
            channel.put((), over=False)


async def _within(news: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await news.wait()
    except TimeoutError:
        return False
    return True
