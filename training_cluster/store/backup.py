"""Copies a database as it is at one moment, in use or not; puts one in place of another."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from training_cluster.domain.errors import StoreCorrupt
from training_cluster.store.integrity import quick_check

_PAGES_A_STEP = 512
_BESIDE = ("-wal", "-shm")

Progress = Callable[[int, int], None]


def copy_database(source: Path, target: Path, progress: Progress) -> None:
    """Copy what is committed at `source` into the new file `target`, which is whole and on the disk
    when this returns. Raises StoreCorrupt for a damaged source.

    One read transaction lasts from the first page to the last: writers go on meanwhile, and what
    they write is not in the copy."""
    try:
        with closing(sqlite3.connect(source, isolation_level=None)) as reading:
            reading.execute("PRAGMA query_only = ON")
            reading.execute("BEGIN")
            reading.execute("SELECT count(*) FROM sqlite_master").fetchone()
            with closing(sqlite3.connect(target, isolation_level=None)) as writing:
                reading.backup(
                    writing,
                    pages=_PAGES_A_STEP,
                    progress=lambda _, left, total: progress(total - left, total),
                )
                writing.execute("PRAGMA journal_mode = DELETE")
                require_whole(writing, source)
    except sqlite3.DatabaseError as error:
        raise StoreCorrupt(f"{source} cannot be read: {error}") from error
    sync(target)


def require_whole(connection: sqlite3.Connection, path: Path) -> None:
    """Raises StoreCorrupt, saying what is wrong with the database."""
    problems = quick_check(connection)
    if problems:
        raise StoreCorrupt(f"{path} is damaged: {'; '.join(problems)}")


def set_aside(path: Path, aside: Path) -> None:
    """Keep a database and its log under another name too; `put_in_place` is to follow."""
    for suffix in ("", "-wal"):
        original = path.with_name(path.name + suffix)
        if original.exists():
            _link(original, aside.with_name(aside.name + suffix))
    sync(path.parent)


def put_in_place(new: Path, path: Path) -> None:
    """Make the closed database `new` the one at `path`. The log of the old one goes first: SQLite
    would play it into the new one."""
    sync(new)
    for suffix in _BESIDE:
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    os.replace(new, path)
    sync(path.parent)


def remove_database(path: Path) -> None:
    """Remove an unfinished database of ours with what SQLite put beside it."""
    for suffix in ("", "-journal", *_BESIDE):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """The digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Have a file or a folder on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _link(original: Path, copy: Path) -> None:
    try:
        os.link(original, copy)
    except OSError:
        shutil.copy2(original, copy)
        with suppress(OSError):
            sync(copy)
