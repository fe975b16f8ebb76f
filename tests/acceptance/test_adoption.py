"""A daemon that comes back takes over what runs, and sees how it ends."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections import Counter
from pathlib import Path

from tests.daemon_process import DaemonProcess, eventually, running_daemon, trainer
from tests.trust import Promise
from training_cluster.store.migrations import migrations

LATEST_SECONDS = 2.0
OUR_COUNTERS = "_counts"  # kept by triggers


def settings(record: Path, slots: int) -> dict[str, str]:
    return {
        "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("released", record),
        "TRAINING_CLUSTER_CPU_SLOTS": str(slots),
    }


def launched(record: Path) -> list[str]:
    file = record / "launches"
    return file.read_text().split() if file.exists() else []


def let_end(record: Path, codes: dict[str, int]) -> None:
    for job, code in codes.items():
        (record / f"{job}.new").write_text(str(code))
        (record / f"{job}.new").rename(record / job)


def exits(daemon: DaemonProcess, jobs: dict[str, int]) -> list[float]:
    """When each trainer ended (Unix seconds), once all runners have recorded it."""
    files = [daemon.attempt_dir(job) / "exit.json" for job in jobs]
    eventually(lambda: all(file.exists() for file in files))
    return [json.loads(file.read_text())["ended_at"] for file in files]


def seen(daemon: DaemonProcess) -> dict[str, tuple[int, float]]:
    """Exit code of each ended attempt and when the daemon stored it."""
    query = """
    SELECT j.id, a.exit_code, a.ended_at FROM attempts a JOIN jobs j ON j.number = a.job_number
    WHERE a.ended_at IS NOT NULL"""
    with contextlib.closing(sqlite3.connect(daemon.state / "queue.db")) as connection:
        return {job: (code, at) for job, code, at in connection.execute(query)}


def test_twenty_live_trainers_are_adopted_after_a_kill_and_after_a_restart(tmp_path, record, trust):
    with running_daemon(tmp_path / "state", settings(record, 20)) as daemon:
        jobs = [daemon.submit()["job_id"] for _ in range(20)]
        codes = {job: number % 7 * 11 for number, job in enumerate(jobs)}
        eventually(lambda: len(launched(record)) == 20, 60)
        delays: list[float] = []
        parts = [{job: codes[job] for job in part} for part in (jobs[:4], jobs[4:8], jobs[8:])]
        for go_away, part in ((daemon.kill, parts[0]), (daemon.stop, parts[1])):
            go_away()
            let_end(record, part)  # while nobody looks
            exits(daemon, part)
            daemon.start()
            up_at = time.time()
            eventually(lambda part=part: part.keys() <= seen(daemon).keys(), LATEST_SECONDS)
            delays += [max(0.0, seen(daemon)[job][1] - up_at) for job in part]
        assert all(daemon.job(job)["status"] == "running" for job in parts[2])
        let_end(record, parts[2])
        ended = exits(daemon, parts[2])
        eventually(lambda: len(seen(daemon)) == 20)
        delays += [seen(daemon)[job][1] - at for job, at in zip(parts[2], ended, strict=True)]
        assert {job: code for job, (code, _) in seen(daemon).items()} == codes
        assert Counter(launched(record)) == dict.fromkeys(jobs, 1)
    assert max(delays) < LATEST_SECONDS
    trust(
        Promise.ADOPTION,
        "20 live trainers over a kill and a restart, 8 of them ended meanwhile: all adopted, "
        f"right exit code seen within {max(delays):.2f} s",
        form="full",
    )


def test_attempts_of_a_daemon_before_this_schema_are_adopted_after_the_upgrade(tmp_path, record):
    with running_daemon(tmp_path / "state", settings(record, 3)) as daemon:
        codes = {daemon.submit()["job_id"]: code for code in (0, 7, 9)}
        waiting = daemon.submit()["job_id"]
        eventually(lambda: len(launched(record)) == 3)
        daemon.kill()
        as_an_earlier_daemon_left_it(daemon.state / "queue.db")
        daemon.start()
        assert all(daemon.job(job)["status"] == "running" for job in codes)
        assert daemon.job(waiting)["status"] == "queued"
        let_end(record, {**codes, waiting: 0})
        for job, code in codes.items():
            assert daemon.wait_for(job, *ENDS)["attempts"][0]["exit_code"] == code
        assert daemon.wait_for(waiting)["status"] == "completed"
        assert Counter(launched(record)) == dict.fromkeys([*codes, waiting], 1)


ENDS = ("completed", "failed")


_TABLES = "SELECT name FROM main.sqlite_master WHERE type = 'table'"
_COLUMNS = "SELECT name FROM pragma_table_info(?, 'main')"


def as_an_earlier_daemon_left_it(path: Path, steps: int = 2) -> None:
    """Put what a store holds into one of only the first steps of the schema."""
    older = path.with_name("older.db")
    database = sqlite3.connect(older, isolation_level=None)
    migrations.apply(database, stop_before=migrations.names[steps])
    database.execute("ATTACH ? AS now", (str(path),))
    for (table,) in database.execute(_TABLES).fetchall():
        if not table.endswith(OUR_COUNTERS) and "sqlite" not in table:
            columns = ", ".join(row[0] for row in database.execute(_COLUMNS, (table,)))
            database.execute(
                f"INSERT OR REPLACE INTO main.{table} ({columns}) SELECT {columns} FROM now.{table}"
            )
    database.close()
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        path.with_name(name).unlink(missing_ok=True)
    older.rename(path)
