"""Curves over metric lines in SQLite: how many points a metric has, and the points row by row."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

_HOLD = " FROM metric_lines m WHERE m.job_number = ? AND m.superseded_by IS NULL"
_VALUE = "json_extract(m.metrics, ?)"


def counts(connection: sqlite3.Connection, job_number: int, names: Sequence[str]) -> list[int]:
    """How many lines have a value of each metric, in one pass over the job's lines."""
    columns = ", ".join([f"count({_VALUE})"] * len(names))
    values = (*map(_path, names), job_number)
    return list(connection.execute(f"SELECT {columns}{_HOLD}", values).fetchone())


def rows(
    connection: sqlite3.Connection, job_number: int, names: Sequence[str]
) -> Iterator[tuple[Any, ...]]:
    """Step, time (Unix seconds) and the value of each metric (None: it has none there) of every
    line that holds, in the order in which they were logged; one row is in memory at a time."""
    columns = ", ".join(["m.step", "m.time", *[_VALUE] * len(names)])
    cursor = connection.cursor()
    cursor.row_factory = None
    values = (*map(_path, names), job_number)
    return cursor.execute(f"SELECT {columns}{_HOLD} ORDER BY m.sequence", values)


def _path(name: str) -> str:
    return f'$."{name}"'
