"""A lost database is made again: running jobs are adopted, ended ones known, nothing runs twice."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.upkeep import command, launches, recorded, refusal
from tests.daemon_process import DaemonProcess, eventually, running_daemon, trainer

PAGE = 4096


@pytest.fixture
def daemon(tmp_path: Path, record: Path) -> Iterator[DaemonProcess]:
    """Three slots; jobs end with exit code 5 when `release` is there."""
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("recording", record, 120, 5),
        "TRAINING_CLUSTER_CPU_SLOTS": "3",
    }
    with running_daemon(tmp_path / "state", environment) as daemon:
        yield daemon


def gone(database: Path) -> None:
    for path in database.parent.glob("queue.db*"):
        path.unlink()


def rubbish(database: Path) -> None:
    database.write_bytes(random.Random(3).randbytes(database.stat().st_size))
    database.with_name("queue.db-wal").write_bytes(random.Random(4).randbytes(100_000))


def header(database: Path) -> None:
    with database.open("r+b") as file:
        file.write(bytes(100))
    database.with_name("queue.db-wal").unlink()


def middle(database: Path) -> None:
    pages = database.stat().st_size // PAGE
    with database.open("r+b") as file:
        for page in range(4, pages, 3):
            file.seek(page * PAGE)
            file.write(random.Random(page).randbytes(PAGE))


def cut_off(database: Path) -> None:
    with database.open("r+b") as file:
        file.truncate(database.stat().st_size // 3)


LONG = [pytest.param(each, marks=pytest.mark.slow) for each in (gone, rubbish, header, cut_off)]


@pytest.mark.parametrize("damage", [middle, *LONG])
def test_running_and_ended_jobs_outlive_their_database(
    daemon: DaemonProcess, record: Path, damage: Callable[[Path], None]
):
    (record / "release").touch()
    ended = [daemon.submit(save_name=f"ended-{n}")["job_id"] for n in range(3)]
    for job in ended:
        daemon.wait_for(job, "failed")
    (record / "release").unlink()
    running = [daemon.submit(save_name=f"running-{n}")["job_id"] for n in range(3)]
    for job in running:
        daemon.wait_for(job, "running")
    queued = [daemon.submit(save_name=f"queued-{n}")["job_id"] for n in range(2)]
    recorded(daemon, *ended, *running)
    before = {job: daemon.job(job) for job in (*ended, *running)}
    assert daemon.stop() == 0  # the log is played in: what is damaged is all there is

    daemon.start().kill()
    damage(daemon.state / "queue.db")
    if damage is not gone:
        refused = refusal(daemon)
        assert "damaged" in refused
        assert "training-cluster rebuild" in refused
    told = command(daemon, "rebuild")
    assert told["directories"]["running"] == 3
    assert not told["directories"]["unknown"]

    daemon.start()
    for job in running:
        found = daemon.wait_for(job, "running")
        assert found["number"] == before[job]["number"]
        assert found["config"] == before[job]["config"]
        assert found["user"] == before[job]["user"]
    for job in ended:
        assert daemon.job(job)["status"] == "failed"
        assert daemon.job(job)["attempts"][0]["exit_code"] == 5
    kept = [job for job in queued if daemon.client.get(f"/train/{job}").status_code == 200]
    if damage is header:
        assert kept == queued
    else:
        assert len(kept) <= len(queued)
    (record / "release").touch()
    for job in (*running, *kept):
        assert daemon.wait_for(job, "failed")["attempts"][0]["exit_code"] == 5
    assert set(launches(record).values()) == {1}
    assert daemon.submit()["number"] > max(view["number"] for view in before.values())
    assert "store.rebuilt" in daemon.client.get("/events", params={"limit": 1000}).text


def test_a_whole_database_is_not_rebuilt_and_a_running_daemon_keeps_its_own(daemon):
    daemon.submit()
    assert command(daemon, "rebuild", code=1)["code"] == "state_directory_in_use"
    daemon.stop()
    assert command(daemon, "rebuild", code=1)["code"] == "conflict"


def test_damage_met_while_running_stops_the_writing_and_no_job(daemon, record):
    running = daemon.submit()["job_id"]
    daemon.wait_for(running, "running")
    for number in range(250):
        daemon.submit(save_name=f"queued-{number}")
    recorded(daemon, running)
    database = daemon.state / "queue.db"
    with database.open("r+b") as file:
        for page in range(1, database.stat().st_size // PAGE):
            file.seek(page * PAGE)
            file.write(random.Random(page).randbytes(PAGE))

    def refused() -> bool:
        daemon.client.get("/train", params={"limit": 200})
        answer = daemon.client.post("/train", json={})
        return answer.status_code == 503 and answer.json()["code"] == "store_damaged"

    eventually(refused)
    assert daemon.client.get("/healthz").status_code == 200
    ready = daemon.client.get("/readyz")
    assert ready.status_code == 503
    assert "damaged" in ready.text
    (record / "release").touch()
    exit_file = daemon.attempt_dir(running) / "exit.json"
    eventually(exit_file.exists)
    (record / "release").unlink()

    daemon.kill()
    command(daemon, "rebuild")
    daemon.start()
    assert daemon.wait_for(running, "failed")["attempts"][0]["exit_code"] == 5
    assert launches(record)[(running, "attempt-1")] == 1
