"""Rows as they lie in tables, by column names: for salvage and records, whatever the schema is."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

_COLUMNS = "SELECT name FROM pragma_table_info(?)"
_WITHOUT_ROWID = "SELECT name FROM pragma_table_list WHERE wr = 1 AND schema = 'main'"


def insert_row(connection: sqlite3.Connection, table: str, row: Mapping[str, Any]) -> int:
    """Insert a row's known columns, and its rowid where that is given; 0 when its key is there
    already, else 1. Raises sqlite3.IntegrityError for a row that the schema refuses."""
    names = [name for name in (*columns(connection, table), "rowid") if name in row]
    listed = ", ".join(f'"{name}"' for name in names)
    places = ", ".join("?" * len(names))
    query = f'INSERT INTO "{table}" ({listed}) VALUES ({places}) ON CONFLICT DO NOTHING'  # noqa: S608
    return connection.execute(query, [row[name] for name in names]).rowcount


def columns(connection: sqlite3.Connection, table: str) -> list[str]:
    """The columns of a table."""
    return [row[0] for row in connection.execute(_COLUMNS, (table,))]


def tables_without_rowid(connection: sqlite3.Connection) -> set[str]:
    """The tables whose rows lie in the order of their primary key."""
    return {row[0] for row in connection.execute(_WITHOUT_ROWID)}


def drop_orphans(connection: sqlite3.Connection) -> dict[str, int]:
    """Remove rows that refer to rows which are not there; how many went, by table."""
    dropped: dict[str, int] = {}
    while gone := _drop_once(connection):
        for table, count in gone.items():
            dropped[table] = dropped.get(table, 0) + count
    return dropped


def _drop_once(connection: sqlite3.Connection) -> dict[str, int]:
    gone: dict[str, int] = {}
    for table, rowid, *_ in connection.execute("PRAGMA foreign_key_check").fetchall():
        if rowid is not None:
            done = connection.execute(f'DELETE FROM "{table}" WHERE rowid = ?', (rowid,))  # noqa: S608
            gone[table] = gone.get(table, 0) + done.rowcount
    for table in tables_without_rowid(connection):
        if "job_number" in columns(connection, table):
            unknown = "job_number NOT IN (SELECT number FROM jobs)"
            count = connection.execute(f'DELETE FROM "{table}" WHERE {unknown}').rowcount  # noqa: S608
            gone[table] = gone.get(table, 0) + count
    return {table: count for table, count in gone.items() if count}
