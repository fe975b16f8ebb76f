"""Is a database whole: the quick check, where it is worth its time."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import structlog

from training_cluster.domain.errors import StoreCorrupt

log = structlog.get_logger(__name__)

# SQLite reads some 500 MB/s here; a start is not held up longer than this takes
_MOST_CHECKED_BYTES = 128 << 20
REBUILD_HINT = (
    "it is left as it is. `training-cluster rebuild` moves it aside and makes a new one of what "
    "can be read and of the job directories; `training-cluster restore` goes back to a backup"
)


def ended_uncleanly(path: Path) -> bool:
    """Whether the last daemon did not come to close its database: SQLite removes the log then."""
    try:
        return path.with_name(path.name + "-wal").stat().st_size > 0
    except OSError:
        return False


def check_after_crash(connection: sqlite3.Connection, path: Path) -> None:
    """Read a database of ordinary size once. Raises StoreCorrupt."""
    size = path.stat().st_size
    if size > _MOST_CHECKED_BYTES:
        log.info("too large to be checked", action="store.unchecked", bytes=size)
        return
    problems = quick_check(connection)
    if problems:
        raise StoreCorrupt(f"{path} is damaged: {'; '.join(problems)}", hint=REBUILD_HINT)


def quick_check(connection: sqlite3.Connection) -> list[str]:
    """What SQLite finds wrong with a database; empty when it is whole."""
    try:
        rows = connection.execute("PRAGMA quick_check(5)").fetchall()
    except sqlite3.DatabaseError as error:
        return [str(error)]
    return [] if [tuple(row) for row in rows] == [("ok",)] else [str(row[0]) for row in rows]
