"""The one SQLite file: a single writer thread with group commit, and reader threads.

WAL with synchronous=FULL: when `write` returns, the change is on disk. Changes that arrive while
a commit is under way share the next one, each in a savepoint of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import structlog

from training_cluster.crash_points import crash_point
from training_cluster.domain.errors import (
    StorageFull,
    StoreCorrupt,
    StoreDamaged,
    StoreTooNew,
    StoreUnavailable,
    TrainingClusterError,
)
from training_cluster.store.facts import Fact, FactConnection
from training_cluster.store.integrity import REBUILD_HINT, check_after_crash, ended_uncleanly
from training_cluster.store.migrations import migrations, steps_of_a_later_version

log = structlog.get_logger(__name__)

T = TypeVar("T")
Connection = sqlite3.Connection
Listener = Callable[[Sequence[Fact]], None]

_MOST_PER_COMMIT = 64
_MOST_MAKING_ROOM = 4
_READERS = 2
_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA busy_timeout = 10000",
    "PRAGMA cache_size = -256",
)


class _Write:
    """One change on its way to the writer thread."""

    __slots__ = ("change", "error", "future", "result")

    def __init__(self, change: Callable[[Connection], Any]) -> None:
        self.change = change
        self.future: Future[Any] = Future()
        self.result: Any = None
        self.error: BaseException | None = None


def connect(path: Path) -> FactConnection:
    """A connection with the house's pragmas; transactions are begun by hand."""
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, factory=FactConnection
    )
    connection.facts = []
    connection.row_factory = sqlite3.Row
    for pragma in _PRAGMAS:
        connection.execute(pragma)
    return connection


def migrated(path: Path) -> FactConnection:
    """A connection to a database with today's schema, checked if nobody came to close it."""
    unclean = ended_uncleanly(path)
    connection = connect(path)
    try:
        if unclean:
            check_after_crash(connection, path)
        _migrate(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def translate(error: sqlite3.Error) -> TrainingClusterError:
    """SQLite's error as ours: a full disk, a damaged file, or a store that cannot be used now."""
    text, name = str(error), getattr(error, "sqlite_errorname", "")
    if "disk is full" in text or name == "SQLITE_IOERR_SHMSIZE":
        return StorageFull(hint="free space on the disk that holds the state directory")
    if "malformed" in text or "not a database" in text:
        return StoreCorrupt(f"the database is damaged: {text}", hint=REBUILD_HINT)
    return StoreUnavailable(f"the store cannot be used at the moment: {text}")


class Database:
    """The store's file. Raises StoreCorrupt on opening a damaged one, StoreTooNew on one that a
    later version of the program has used: neither is changed.

    One that turns out to be damaged later is written to no more: then everything raises
    StoreDamaged but reads of what can be read. `make_room` is called, on any thread, when the disk
    is full; if it returns True the change is tried again."""

    def __init__(self, path: Path, make_room: Callable[[], bool] = lambda: False) -> None:
        self.path = path
        self._make_room = make_room
        self._damage: str | None = None
        self._writes: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="store-reader")
        self._local = threading.local()
        self._reader_connections: list[Connection] = []
        self._writer = self._open()
        self._thread = threading.Thread(target=self._serve, name="store-writer", daemon=True)
        self._closed = False
        self._listener: tuple[asyncio.AbstractEventLoop, Listener] | None = None
        self._thread.start()

    def listen(self, listener: Listener) -> None:
        """Have the running event loop told of every committed change's facts, in order, before
        the change's own caller learns that it is committed."""
        self._listener = (asyncio.get_running_loop(), listener)

    def _open(self) -> FactConnection:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        for _ in range(_MOST_MAKING_ROOM):
            try:
                return migrated(self.path)
            except sqlite3.DatabaseError as error:
                ours = translate(error)
                if not isinstance(ours, StorageFull) or not self._make_room():
                    raise ours from error
        raise StorageFull("the database cannot be opened: the disk is full")

    async def write(self, change: Callable[[Connection], T]) -> T:
        """Run `change` in a transaction; when this returns its effect is durable.

        What `change` raises undoes only its own effect and comes back to the caller. Raises
        StorageFull or StoreUnavailable when SQLite fails.
        """
        if self._closed:
            raise StoreUnavailable("the store is closed")
        if self._damage is not None:
            raise _damaged(self._damage)
        item = _Write(change)
        self._writes.put(item)
        result: T = await asyncio.wrap_future(item.future)
        return result

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run `query` on a reader thread, over one consistent state of the database."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, self._read, query)

    def _read(self, query: Callable[[Connection], T]) -> T:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = connect(self.path)
            connection.execute("PRAGMA query_only = ON")
            self._reader_connections.append(connection)
        try:
            connection.execute("BEGIN")
            try:
                return query(connection)
            finally:
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._ours(error) from error

    def _serve(self) -> None:
        while (first := self._writes.get()) is not None:
            batch = [first]
            stop = False
            with contextlib.suppress(queue.Empty):
                while len(batch) < _MOST_PER_COMMIT:
                    following = self._writes.get_nowait()
                    if following is None:
                        stop = True
                        break
                    batch.append(following)
            self._commit(batch)
            if stop:
                return

    def _commit(self, batch: list[_Write]) -> None:
        # from here on a caller that goes away cannot take its change back
        batch = [item for item in batch if item.future.set_running_or_notify_cancel()]
        if not batch:
            return
        for _ in range(_MOST_MAKING_ROOM):
            if not self._try_commit(batch) or not self._make_room():
                break
        self._publish()
        for item in batch:
            if item.error is not None:
                item.future.set_exception(item.error)
            else:
                item.future.set_result(item.result)

    def _try_commit(self, batch: list[_Write]) -> bool:
        """One transaction of all changes; True when it failed because the disk is full."""
        is_full = False
        for item in batch:
            item.error = None
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            for item in batch:
                self._apply(item)
            crash_point("store.before_commit")
            self._writer.execute("COMMIT")
            crash_point("store.after_commit")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                self._writer.execute("ROLLBACK")
            ours = self._ours(error)
            is_full = isinstance(ours, StorageFull)
            for item in batch:
                item.error = item.error or ours
            self._writer.facts.clear()
        return is_full

    def _publish(self) -> None:
        if not self._writer.facts:
            return
        facts, self._writer.facts = tuple(self._writer.facts), []
        if self._listener is not None:
            loop, listener = self._listener
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(listener, facts)

    def _apply(self, item: _Write) -> None:
        """Run one change in its savepoint. A full disk aborts the whole transaction in SQLite,
        so its savepoint is gone too: then the error goes up and fails the batch."""
        self._writer.execute("SAVEPOINT change")
        told = len(self._writer.facts)
        try:
            item.result = item.change(self._writer)
        except BaseException as error:
            item.error = self._as_ours(error)
            del self._writer.facts[told:]
            if not self._writer.in_transaction:
                raise sqlite3.OperationalError(str(error)) from error
            self._writer.execute("ROLLBACK TO change")
        self._writer.execute("RELEASE change")

    def _ours(self, error: sqlite3.Error) -> TrainingClusterError:
        """SQLite's error as ours; from the first sign of damage on nothing more is written."""
        ours = translate(error)
        if not isinstance(ours, StoreCorrupt):
            return ours
        if self._damage is None:
            log.error("damaged", action="store.damaged", path=str(self.path), why=ours.message)
            self._damage = ours.message
        return _damaged(self._damage)

    def _as_ours(self, error: BaseException) -> BaseException:
        """IntegrityError stays: it is the schema refusing a change, its maker knows what it
        means."""
        if isinstance(error, sqlite3.Error) and not isinstance(error, sqlite3.IntegrityError):
            return self._ours(error)
        return error

    def close(self) -> None:
        """Finish what was handed in, then close the file. May be called twice."""
        if self._closed:
            return
        self._closed = True
        self._writes.put(None)
        self._thread.join()
        self._readers.shutdown(wait=True)
        for connection in (*self._reader_connections, self._writer):
            connection.close()


def _migrate(connection: Connection, path: Path) -> None:
    later = steps_of_a_later_version(connection)
    if later:
        raise StoreTooNew(
            f"{path} was written by a later version: it has taken the step {later[-1]}",
            hint="install that version again, or go back to a backup made before: see "
            "docs/upgrading.md",
        )
    migrations.apply(connection)


def _damaged(why: str) -> StoreDamaged:
    return StoreDamaged(
        f"{why}; nothing more is written to it, running jobs go on",
        hint="stop the daemon, then run `training-cluster rebuild`",
    )
