"""A reading thread of its own for queries over a whole job, which may take seconds: the short
reads of everybody else never wait for one."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from training_cluster.domain.errors import StoreUnavailable
from training_cluster.store.database import connect, translate

T = TypeVar("T")


class LongReads:
    """One connection to the store's file, opened when it is first needed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store-long-reads")
        self._connection: sqlite3.Connection | None = None
        self._closed = False

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run `query` over one consistent state of the database, after those asked before it."""
        if self._closed:
            raise StoreUnavailable("the store is closed")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._read, query)

    def _read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        try:
            if self._connection is None:
                self._connection = connect(self._path)
                self._connection.execute("PRAGMA query_only = ON")
            self._connection.execute("BEGIN")
            try:
                return query(self._connection)
            finally:
                self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise translate(error) from error

    def close(self) -> None:
        """Break off the query under way and close. May be called twice."""
        if self._closed:
            return
        self._closed = True
        if self._connection is not None:
            self._connection.interrupt()
        self._thread.shutdown(wait=True, cancel_futures=True)
        if self._connection is not None:
            self._connection.close()
