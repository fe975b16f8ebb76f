"""The file itself: durability, group commit, isolation of changes, damage, migrations."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.factories import a_new_job
from tests.store.conftest import opened
from training_cluster.domain.errors import StorageFull, StoreCorrupt, StoreTooNew, StoreUnavailable
from training_cluster.store import jobs
from training_cluster.store.database import Database, connect
from training_cluster.store.migrations import migrations


async def test_a_change_that_raises_undoes_only_itself(database):
    def spoiled(connection):
        jobs.insert(connection, a_new_job())
        raise RuntimeError("no")

    async def good():
        return await database.write(lambda c: jobs.insert(c, a_new_job()))

    results = await asyncio.gather(good(), database.write(spoiled), good(), return_exceptions=True)
    assert isinstance(results[1], RuntimeError)
    assert await database.read(lambda c: c.execute("SELECT count(*) FROM jobs").fetchone()[0]) == 2


async def test_changes_that_come_together_share_a_commit(database):
    commits = []
    database._writer.set_trace_callback(
        lambda sql: commits.append(sql) if sql == "COMMIT" else None
    )
    await asyncio.gather(
        *(database.write(lambda c: jobs.insert(c, a_new_job())) for _ in range(200))
    )
    assert 1 <= len(commits) < 100


async def test_a_caller_that_goes_away_stops_nobody_else(database):
    abandoned = [
        asyncio.ensure_future(database.write(lambda c: jobs.insert(c, a_new_job())))
        for _ in range(50)
    ]
    await asyncio.sleep(0)
    for write in abandoned:
        write.cancel()
    await asyncio.gather(*abandoned, return_exceptions=True)
    assert await database.write(lambda c: jobs.insert(c, a_new_job())) >= 1


async def test_readers_see_only_committed_changes_and_cannot_write(database):
    with pytest.raises(StoreUnavailable):
        await database.read(lambda c: c.execute("DELETE FROM jobs"))


def test_wal_and_full_synchronous_are_on(tmp_path):
    with opened(tmp_path / "queue.db") as database:
        assert database._writer.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        assert database._writer.execute("PRAGMA synchronous").fetchone()[0] == 2
        assert database._writer.execute("PRAGMA foreign_keys").fetchone()[0] == 1


async def test_a_full_disk_is_a_typed_error_and_leaves_reads_alive(tmp_path):
    with opened(tmp_path / "queue.db") as database:
        await database.write(lambda c: jobs.insert(c, a_new_job()))
        pages = database._writer.execute("PRAGMA page_count").fetchone()[0]
        database._writer.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StorageFull):
            await database.write(lambda c: [jobs.insert(c, a_new_job()) for _ in range(500)])
        assert len(await database.read(lambda c: jobs.queued(c, 10))) == 1
        database._writer.execute("PRAGMA max_page_count = 1000000")
        await database.write(lambda c: jobs.insert(c, a_new_job()))


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "queue.db"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreCorrupt):
        Database(path)


async def test_a_closed_store_says_so(tmp_path):
    database = Database(tmp_path / "queue.db")
    database.close()
    database.close()
    with pytest.raises(StoreUnavailable):
        await database.write(lambda c: None)


def test_the_schema_is_the_sum_of_its_migrations(tmp_path):
    with opened(tmp_path / "a.db"):
        pass
    with opened(tmp_path / "a.db"):
        reopened = _schema(tmp_path / "a.db")
    fresh = connect(tmp_path / "b.db")
    migrations.apply(fresh)
    assert reopened == _schema(tmp_path / "b.db")
    taken = migrations.taken(fresh)
    assert taken == sorted(migrations.names)
    fresh.close()


def _schema(path: Path) -> set[str]:
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    connection.close()
    return {row[0] for row in rows}


def test_a_database_of_a_later_version_is_refused_and_left_as_it_is(tmp_path):
    path = tmp_path / "queue.db"
    with opened(path):
        pass
    connection = sqlite3.connect(path)
    connection.execute(
        "INSERT INTO _sqlite_migrations (migration_set, name, applied_at)"
        " VALUES ('training_cluster', 'm9999_of_next_year', '2030-01-01')"
    )
    connection.commit()
    connection.close()
    before = _schema(path)
    with pytest.raises(StoreTooNew, match="m9999_of_next_year") as refused:
        Database(path)
    assert "docs/upgrading.md" in (refused.value.hint or "")
    assert _schema(path) == before


_WRITER = """
import asyncio, sys
from pathlib import Path
from tests.factories import a_new_job
from tests.store.conftest import opened
from training_cluster.store import jobs
from training_cluster.store.database import Database

async def main():
    database = Database(Path(sys.argv[1]))
    while True:
        new = a_new_job()
        await database.write(lambda c: jobs.insert(c, new))
        print(new.id, flush=True)

asyncio.run(main())
"""


def test_what_was_acknowledged_survives_kill_9(tmp_path):
    path = tmp_path / "queue.db"
    root = Path(__file__).parents[2]
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert writer.stdout is not None
    acknowledged = [writer.stdout.readline().strip() for _ in range(200)]
    writer.send_signal(signal.SIGKILL)
    acknowledged += writer.stdout.read().split()
    writer.wait()
    writer.stdout.close()
    with opened(path) as database:
        kept = {row[0] for row in database._writer.execute("SELECT id FROM jobs")}
    assert set(acknowledged) <= kept
