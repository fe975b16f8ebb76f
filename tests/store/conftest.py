"""A real database for every test."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from training_cluster.store.database import Connection, Database, connect


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "queue.db")
    yield opened
    opened.close()


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    """A second, plain connection to the same file, in autocommit mode."""
    opened = connect(database.path)
    yield opened
    opened.close()


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Database]:
    """A database that is closed at the end of the block."""
    database = Database(path)
    try:
        yield database
    finally:
        database.close()
