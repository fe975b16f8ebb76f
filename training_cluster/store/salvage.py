"""Reads what can be read of a damaged database, row by row, into a new one.

A damaged page loses the rows that lie on it and no others: where a scan fails, the range of keys is
halved until what is readable is told from what is not.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from training_cluster.store.database import migrated
from training_cluster.store.raw_rows import insert_row, tables_without_rowid

_MOST_FAILURES = 20_000  # of one table; each failure costs a look-up
_LARGEST_KEY = 1 << 40
_DERIVED = frozenset({"job_counts", "attempt_counts", "delivery_counts"})  # counted anew
_HEADER_BYTES, _PAGE_BYTES = 100, 4096


@dataclass(slots=True)
class TableTold:
    """How much of a table was found: rows taken over, rows refused because they make no sense,
    and whether parts could not be read."""

    kept: int = 0
    refused: int = 0
    is_damaged: bool = False


def salvage(source: Path, target: sqlite3.Connection, scratch: Path) -> dict[str, TableTold]:
    """Copy every readable row of the database at `source` (and its log) into `target`, which has
    today's schema. The source is not touched; copies of it are made below `scratch`."""
    told = {name: TableTold() for name in _tables(target)}
    with TemporaryDirectory(dir=scratch, prefix="salvage-") as folder:
        readings = list(_readings(source, Path(folder)))
        for table, found in told.items():
            for reading in readings:
                before, found.is_damaged = found.is_damaged, False
                _copy(reading, target, table, found)
                found.is_damaged |= before and not found.kept
                if not found.is_damaged:
                    break
        for reading in readings:
            reading.close()
    return told


def _tables(target: sqlite3.Connection) -> list[str]:
    """The tables of the schema, those that others refer to first."""
    rows = target.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY rowid")
    names = [row[0] for row in rows]
    return [n for n in names if not n.startswith(("sqlite_", "_sqlite")) and n not in _DERIVED]


def _readings(source: Path, folder: Path) -> Iterator[sqlite3.Connection]:
    """Ways to read the file: with its log, without it, and with its first bytes made anew."""
    for name, with_log, mend in (
        ("log", True, 0),
        ("bare", False, 0),
        ("header", False, _HEADER_BYTES),
        ("page", False, _PAGE_BYTES),
    ):
        copy = folder / f"{name}.db"
        shutil.copyfile(source, copy)
        log = source.with_name(f"{source.name}-wal")
        if with_log and log.exists():
            shutil.copyfile(log, f"{copy}-wal")
        if mend:
            _mend(copy, mend, folder)
        with contextlib.suppress(sqlite3.Error):
            connection = sqlite3.connect(copy, isolation_level=None)
            connection.row_factory = sqlite3.Row
            connection.text_factory = lambda data: data.decode(errors="replace")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            yield connection


def _mend(copy: Path, count: int, folder: Path) -> None:
    """Put the first bytes of a new database in place of the file's own; its size is in them."""
    fresh = folder / "fresh.db"
    if not fresh.exists():
        connection = migrated(fresh)
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.close()
    head = bytearray(fresh.read_bytes()[:count])
    head[28:32] = struct.pack(">I", os.path.getsize(copy) // _PAGE_BYTES)
    head[32:40] = bytes(8)  # no list of free pages: nothing is written to this copy
    with copy.open("r+b") as file:
        file.write(head)


def _copy(
    reading: sqlite3.Connection, target: sqlite3.Connection, table: str, told: TableTold
) -> None:
    for row in _rows(reading, target, table, told):
        try:
            told.kept += insert_row(target, table, row)
        except sqlite3.Error:
            told.refused += 1


def _rows(
    reading: sqlite3.Connection, target: sqlite3.Connection, table: str, told: TableTold
) -> Iterator[dict[str, Any]]:
    selected, key = _order(target, table)
    query = f'SELECT {selected} FROM "{table}"'  # noqa: S608
    if key is None:
        yield from _scan(reading, query, (), told)
        return
    query += f" WHERE {key} BETWEEN ? AND ? ORDER BY {key}"
    ranges, failures = [(0, _last_key(reading, table, key))], 0
    while ranges and failures < _MOST_FAILURES:
        low, high = ranges.pop()
        part, last = TableTold(), low - 1
        for row in _scan(reading, query, (low, high), part):
            last = max(last, row[key])
            yield row
        if part.is_damaged:
            told.is_damaged, failures = True, failures + 1
            ranges += _left(low, last, high)
    told.is_damaged |= bool(ranges)


def _left(low: int, last: int, high: int) -> list[tuple[int, int]]:
    """What is to be tried after a failure that came behind the row `last`; the lower part last."""
    if last >= low:
        return [(last + 1, high)] if last < high else []
    middle = (low + high) // 2
    return [(middle + 1, high), (low, middle)] if low < high else []


def _scan(
    reading: sqlite3.Connection, query: str, values: tuple[int, ...], told: TableTold
) -> Iterator[dict[str, Any]]:
    try:
        for row in reading.execute(query, values):
            yield dict(row)
    except sqlite3.Error:
        told.is_damaged = True


def _order(target: sqlite3.Connection, table: str) -> tuple[str, str | None]:
    """What to select of a table, and the whole number by which its rows lie in order."""
    query = "SELECT name, type FROM pragma_table_info(?) WHERE pk = 1"
    first = target.execute(query, (table,)).fetchone()
    whole = str(first["name"]) if first is not None and first["type"] == "INTEGER" else None
    if table in tables_without_rowid(target):
        return "*", whole
    return ("*", whole) if whole else ("rowid, *", "rowid")


def _last_key(reading: sqlite3.Connection, table: str, key: str) -> int:
    own = f'SELECT max({key}) FROM "{table}"'  # noqa: S608
    for query in (own, "SELECT max(seq) FROM sqlite_sequence"):
        with contextlib.suppress(sqlite3.Error):
            found = reading.execute(query).fetchone()[0]
            if isinstance(found, int):
                return found
    return _LARGEST_KEY


def new_database(path: Path) -> sqlite3.Connection:
    """An empty database with today's schema, in which rows may come in any order."""
    connection = migrated(path)
    connection.execute("PRAGMA foreign_keys = OFF")
    connection.execute("PRAGMA synchronous = OFF")  # it is put on the disk once, at the end
    return connection
