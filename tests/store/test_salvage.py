"""What is left of a damaged database is found, whichever part of it is damaged."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.factories import NOW, a_new_job
from training_cluster.store import jobs
from training_cluster.store.database import migrated
from training_cluster.store.integrity import quick_check
from training_cluster.store.salvage import new_database, salvage

JOBS = 400
PAGE = 4096


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A database of 400 jobs, its log played in."""
    path = tmp_path_factory.mktemp("whole") / "queue.db"
    connection = migrated(path)
    connection.execute("BEGIN")
    for number in range(JOBS):
        jobs.insert(connection, a_new_job(user=f"user-{number % 7}", now=NOW + number))
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return path


def spoil(path: Path, offset: int, count: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(random.Random(offset).randbytes(count))


def rescue(source: Path, folder: Path):
    """Returns how many jobs and events were found, and what was told of the tables."""
    with sqlite3.connect(source) as check:
        problems = quick_check(check)
    check.close()
    assert problems, "the damage is real"
    digest = source.read_bytes()
    target = new_database(folder / "new.db")
    target.execute("BEGIN")
    told = salvage(source, target, folder)
    target.execute("COMMIT")
    assert source.read_bytes() == digest, "the damaged file is left as it is"
    assert quick_check(target) == []
    found = {name: target.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in told}
    counted = target.execute("SELECT sum(jobs) FROM job_counts").fetchone()[0] or 0
    assert counted == found["jobs"]
    target.close()
    assert not list(folder.glob("salvage-*"))
    return found, told


def jobs_before(path: Path, cut: int) -> int:
    """How many jobs lie in whole pages of the first so many bytes of a file."""
    with sqlite3.connect(path) as connection:
        (cells,) = connection.execute(
            "SELECT sum(ncell) FROM dbstat WHERE name = 'jobs' AND pagetype = 'leaf' "
            "AND pgoffset + pgsize <= ?",
            (cut,),
        ).fetchone()
    connection.close()
    return int(cells)


@pytest.fixture
def damaged(whole: Path, tmp_path: Path) -> Path:
    path = tmp_path / "queue.db"
    shutil.copyfile(whole, path)
    return path


@pytest.mark.parametrize("count", [16, 100, PAGE])
def test_a_lost_header_or_first_page_costs_no_row(damaged, tmp_path, count):
    spoil(damaged, 0, count)
    found, _ = rescue(damaged, tmp_path)
    assert found["jobs"] == found["events"] == JOBS


def test_a_damaged_page_costs_the_rows_on_it_and_no_other(damaged, tmp_path):
    size = damaged.stat().st_size // PAGE
    middle = pages_of(damaged, "jobs")[30]
    assert middle < size
    spoil(damaged, middle * PAGE, PAGE)
    found, told = rescue(damaged, tmp_path)
    assert JOBS - 20 <= found["jobs"] < JOBS
    assert found["events"] == JOBS
    assert told["jobs"].is_damaged
    assert not told["events"].is_damaged


def pages_of(path: Path, table: str) -> list[int]:
    """Pages of 4 KiB that hold rows of jobs, from their content."""
    data = path.read_bytes()
    pages = [data[start : start + PAGE] for start in range(0, len(data), PAGE)]
    marker = {"jobs": b'"model_name"'}[table]
    return [number for number, page in enumerate(pages) if page[:1] == b"\x0d" and marker in page]


def test_ten_damaged_pages_anywhere_leave_most_jobs(damaged, tmp_path):
    for page in pages_of(damaged, "jobs")[5:105:10]:
        spoil(damaged, page * PAGE, PAGE)
    found, _ = rescue(damaged, tmp_path)
    assert found["jobs"] >= JOBS * 0.8


def test_a_cut_off_file_leaves_what_is_before_the_cut(damaged, tmp_path):
    cut = damaged.stat().st_size * 6 // 10
    kept = jobs_before(damaged, cut)
    os.truncate(damaged, cut)
    found, told = rescue(damaged, tmp_path)
    assert 0 < kept - 1 <= found["jobs"] < JOBS, "the row at the edge may go with what is gone"
    assert any(table.is_damaged for table in told.values())


def test_rubbish_holds_nothing_and_raises_nothing(tmp_path):
    path = tmp_path / "queue.db"
    path.write_bytes(random.Random(1).randbytes(50 * PAGE))
    found, _ = rescue(path, tmp_path)
    assert found["jobs"] == 0


def test_what_only_the_log_holds_is_found_and_rubbish_behind_it_is_not(tmp_path):
    source = tmp_path / "live.db"
    connection = migrated(source)
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    for number in range(20):
        connection.execute("BEGIN")
        jobs.insert(connection, a_new_job(now=NOW + number))
        connection.execute("COMMIT")
    path = tmp_path / "queue.db"
    shutil.copyfile(source, path)
    shutil.copyfile(f"{source}-wal", f"{path}-wal")
    connection.close()
    with Path(f"{path}-wal").open("ab") as log:
        log.write(random.Random(2).randbytes(100_000))
    target = new_database(tmp_path / "new.db")
    told = salvage(path, target, tmp_path)
    assert told["jobs"].kept == 20
    target.close()
