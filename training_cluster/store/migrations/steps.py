"""The list of schema steps, and how one is written: plain SQL, statement by statement.

What was taken is in a table of the database, in the form in which sqlite-utils kept it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from training_cluster.crash_points import crash_point

Step = Callable[[sqlite3.Connection], None]

_TABLE = """
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
"""
_EXISTS = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '_sqlite_migrations'"
_TAKEN = "SELECT name FROM _sqlite_migrations WHERE migration_set = ? ORDER BY rowid"
_RECORD = "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES (?, ?, ?)"


class Migrations:
    """The steps of one schema, by the names of their functions, in their order."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._steps: dict[str, Step] = {}

    def __call__(self) -> Callable[[Step], Step]:
        """The decorator of a step."""

        def add(step: Step) -> Step:
            self._steps[step.__name__] = step
            return step

        return add

    @property
    def names(self) -> list[str]:
        """Every step there is."""
        return list(self._steps)

    def taken(self, db: sqlite3.Connection) -> list[str]:
        """The steps a database has taken, in their order."""
        if db.execute(_EXISTS).fetchone() is None:
            return []
        return [row[0] for row in db.execute(_TAKEN, (self._name,))]

    def apply(self, db: sqlite3.Connection, *, stop_before: str | None = None) -> None:
        """Take every step that is left, each with its record in a transaction of its own."""
        if db.execute(_EXISTS).fetchone() is None:
            _within(db, partial(_run, db, _TABLE))
        taken = self.taken(db)
        for name, step in self._steps.items():
            if name == stop_before:
                return
            if name not in taken:
                _within(db, partial(self._take, db, name, step))

    def _take(self, db: sqlite3.Connection, name: str, step: Step) -> None:
        step(db)
        db.execute(_RECORD, (self._name, name, str(datetime.now(UTC))))


migrations = Migrations("training_cluster")


def steps_of_a_later_version(db: sqlite3.Connection) -> list[str]:
    """The steps this database has taken that this program does not know, in their order."""
    return [name for name in migrations.taken(db) if name not in migrations.names]


def execute(db: sqlite3.Connection, *scripts: str) -> None:
    """Run scripts inside the transaction that is open for a step."""
    for script in scripts:
        _run(db, script)
    crash_point("migration.before_commit")


def _within(db: sqlite3.Connection, change: Callable[[], None]) -> None:
    db.execute("BEGIN")
    try:
        change()
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # an error may have ended it
            db.execute("ROLLBACK")
        raise


def _run(db: sqlite3.Connection, script: str) -> None:
    """Statement by statement; `executescript` would commit behind our back."""
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            db.execute(pending.strip())
            pending = ""
