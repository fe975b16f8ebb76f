"""The disk watch: full, enough again, what running attempts still need, what can never fit."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.fakes import FakeClock
from tests.small_disk import fill, small_disk
from training_cluster.domain.disk import DiskNeed
from training_cluster.domain.errors import ImpossibleRequest, StorageFull
from training_cluster.domain.spec import GIB
from training_cluster.services.ballast import Ballast
from training_cluster.services.disk import DiskPolicy, DiskWatch
from training_cluster.store import events
from training_cluster.store.database import Database

MIB = 1 << 20


@pytest.fixture
def disk(tmp_path: Path):
    with small_disk(tmp_path / "small", 24) as folder:
        yield folder


def test_ballast_is_really_allocated_and_given_in_slices(tmp_path):
    ballast = Ballast(tmp_path / "ballast", 2 * MIB)
    assert ballast.make()
    assert os.stat(ballast.path).st_blocks * 512 >= 2 * MIB
    given = 0
    while ballast.give():
        given += 1
    assert given == 8  # of 256 KiB
    assert ballast.was_needed
    assert ballast.make()
    assert not ballast.was_needed
    assert ballast.held_bytes == 2 * MIB


def test_ballast_that_does_not_fit_takes_nothing(disk):
    ballast = Ballast(disk / "ballast", 100 * MIB)
    assert not ballast.make()
    assert ballast.held_bytes == 0
    free = os.statvfs(disk)
    assert free.f_bavail == free.f_blocks


async def test_a_file_system_that_allocates_nothing_is_not_full(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    ballast = Ballast(tmp_path / "ballast", MIB)
    database = Database(tmp_path / "queue.db", ballast.give)
    watch = DiskWatch(database, ballast, FakeClock(), tmp_path, DiskPolicy())
    await watch.run_once()
    watch.require_room()
    database.close()


def test_a_smaller_setting_shrinks_the_ballast(tmp_path):
    Ballast(tmp_path / "ballast", 2 * MIB).make()
    ballast = Ballast(tmp_path / "ballast", MIB)
    assert ballast.make()
    assert ballast.held_bytes == MIB


async def test_a_full_disk_is_told_once_and_so_is_its_end(disk):
    ballast = Ballast(disk / "ballast", 4 * MIB)
    database = Database(disk / "queue.db", ballast.give)
    watch = DiskWatch(database, ballast, FakeClock(), disk, DiskPolicy())
    changes: list[bool] = []
    watch.on_change = lambda: changes.append(watch.is_full)
    await watch.run_once()
    watch.require_room()

    filler = fill(disk)
    for _ in range(3):
        await watch.run_once()
    assert watch.is_full
    with pytest.raises(StorageFull) as refused:
        watch.require_room()
    assert "prune" in str(refused.value.hint)
    assert (await database.read(lambda c: watch.room(c))).is_full

    # room for the ballast alone is not enough: it would come and go
    os.truncate(filler, filler.stat().st_size - 2 * MIB)
    await watch.run_once()
    assert watch.is_full
    filler.unlink()
    for _ in range(2):
        await watch.run_once()
    watch.require_room()
    assert ballast.held_bytes == 4 * MIB
    assert changes == [True, True, False]
    told = await database.read(lambda c: events.page(c, 0, 100))
    assert [event.type.value for event in told] == ["disk.full", "disk.recovered"]
    database.close()


async def test_a_full_disk_still_takes_a_thousand_final_writes(disk):
    ballast = Ballast(disk / "ballast", 8 * MIB)
    assert ballast.make()
    database = Database(disk / "queue.db", ballast.give)
    fill(disk)

    def note(connection):
        connection.execute("INSERT INTO holds VALUES (hex(randomblob(16)), 'a', 'why', 1.0, NULL)")

    for _ in range(1000):
        await database.write(note)
    held = await database.read(lambda c: c.execute("SELECT count(*) FROM holds").fetchone()[0])
    assert held == 1000
    assert ballast.held_bytes > 0
    database.close()


async def test_a_job_the_whole_disk_cannot_hold_is_refused_with_what_would_fit(tmp_path):
    database = Database(tmp_path / "queue.db")
    watch = DiskWatch(
        database, Ballast(tmp_path / "ballast", 0), FakeClock(), tmp_path, DiskPolicy()
    )
    total = watch.space.total_bytes
    watch.require_possible(DiskNeed(10, total // 20, 0))
    with pytest.raises(ImpossibleRequest) as many:
        watch.require_possible(DiskNeed(1000, total // 20, GIB))
    assert many.value.problems[0].field == "save_steps"
    assert "save_total_limit" in (many.value.problems[0].expected or "")
    with pytest.raises(ImpossibleRequest) as large:
        watch.require_possible(DiskNeed(2, total, GIB))
    assert large.value.problems[0].field == "model_name"
    database.close()
