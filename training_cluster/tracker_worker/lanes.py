"""Does the requests of one run in order, and those of different runs at the same time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

Work = Callable[[], None]


class Lanes:
    """One lane a key. Long work has threads of its own, so that it never keeps short work off."""

    def __init__(self, threads: int, threads_for_long_work: int) -> None:
        self._short = ThreadPoolExecutor(threads)
        self._long = ThreadPoolExecutor(threads_for_long_work)
        self._lock = threading.Lock()
        self._waiting: dict[str, deque[tuple[bool, Work]]] = {}

    def add(self, key: str, work: Work, *, is_long: bool = False) -> None:
        """Have work done once all earlier work of the key is done. It must not raise."""
        with self._lock:
            lane = self._waiting.get(key)
            if lane is not None:
                lane.append((is_long, work))
                return
            self._waiting[key] = deque()
        self._submit(key, is_long, work)

    def _submit(self, key: str, is_long: bool, work: Work) -> None:
        (self._long if is_long else self._short).submit(self._do, key, work)

    def _do(self, key: str, work: Work) -> None:
        try:
            work()
        finally:
            self._next(key)

    def _next(self, key: str) -> None:
        with self._lock:
            if not self._waiting[key]:
                del self._waiting[key]
                return
            is_long, work = self._waiting[key].popleft()
        self._submit(key, is_long, work)
