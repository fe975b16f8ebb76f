"""A backup holds everything acknowledged before it; going back to it launches nothing twice."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.upkeep import command, launches, recorded
from tests.daemon_process import DaemonProcess, running_daemon, trainer


@pytest.fixture
def daemon(tmp_path: Path, record: Path) -> Iterator[DaemonProcess]:
    """Two slots; jobs end with exit code 5 when `release` is there."""
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("recording", record, 120, 5),
        "TRAINING_CLUSTER_CPU_SLOTS": "2",
    }
    with running_daemon(tmp_path / "state", environment) as daemon:
        yield daemon


def test_a_backup_in_a_burst_of_submissions_holds_all_that_was_acknowledged(daemon, tmp_path):
    acknowledged: list[str] = []
    over = threading.Event()

    def burst() -> None:
        while not over.is_set():
            acknowledged.append(daemon.submit()["job_id"])

    thread = threading.Thread(target=burst)
    thread.start()
    try:
        while len(acknowledged) < 50:
            over.wait(0.01)
        before = list(acknowledged)
        made = Path(command(daemon, "backup", tmp_path / "backup")["path"])
        during = len(acknowledged) - len(before)
    finally:
        over.set()
        thread.join()
    assert during > 0, "jobs came in meanwhile"
    assert daemon.job(acknowledged[-1])["status"] == "queued"

    manifest = json.loads((made / "manifest.json").read_text())
    assert len(before) <= manifest["jobs"] <= len(acknowledged)
    fresh = DaemonProcess(tmp_path / "fresh" / "state", daemon.environment)
    told = command(fresh, "restore", made)
    assert told["directories"]["lost"] == 2  # they ran elsewhere: they are not started here
    with running_daemon(fresh.state, daemon.environment) as other:
        for job in before:
            assert other.client.get(f"/train/{job}").status_code == 200
        assert other.job(before[0])["error"]["code"] == "lost"


def test_going_back_over_later_attempts_launches_nothing_twice(daemon, record, tmp_path):
    first = daemon.submit(save_name="first")["job_id"]
    daemon.wait_for(first, "running")
    waiting = [daemon.submit()["job_id"] for _ in range(3)]
    daemon.wait_for(waiting[0], "running")
    made = command(daemon, "backup", tmp_path)["path"]

    (record / "release").touch()  # all of them run to their end, and a new one comes
    for job in (first, *waiting):
        daemon.wait_for(job, "failed")
    (record / "release").unlink()
    later = daemon.submit(save_name="later")
    daemon.wait_for(later["job_id"], "running")
    recorded(daemon, first, *waiting, later["job_id"])
    daemon.kill()

    assert command(daemon, "restore", made, code=1)["code"] == "conflict"
    told = command(daemon, "restore", made, "--force")
    assert Path(told["aside"]).is_file()
    assert told["directories"]["added"] == 1
    daemon.start()
    assert daemon.wait_for(later["job_id"], "running")["number"] == later["number"]
    for job in (first, *waiting):
        assert daemon.job(job)["status"] == "failed"
        assert daemon.job(job)["attempts"][0]["exit_code"] == 5
    assert daemon.submit()["number"] > later["number"]
    (record / "release").touch()
    daemon.wait_for(later["job_id"], "failed")
    assert set(launches(record).values()) == {1}


def test_secrets_are_in_a_backup_only_when_asked_for(daemon, tmp_path):
    secret = daemon.state / "secrets" / "wh_1.json"
    secret.parent.mkdir(exist_ok=True, mode=0o700)
    secret.write_text('{"url": "https://hooks.example/canary", "secrets": []}')
    plain = Path(command(daemon, "backup", tmp_path / "plain")["path"])
    assert not any("canary" in p.read_text("latin-1") for p in plain.rglob("*") if p.is_file())
    full = Path(command(daemon, "backup", tmp_path / "full", "--with-secrets")["path"])
    assert (full / "secrets" / "wh_1.json").read_text() == secret.read_text()
    assert (full / "secrets" / "wh_1.json").stat().st_mode & 0o077 == 0
    assert (full / "queue.db").stat().st_mode & 0o077 == 0
    assert command(daemon, "backup", full / "queue.db", code=1)["code"] == "conflict"
    fresh = DaemonProcess(tmp_path / "fresh" / "state", daemon.environment)
    command(fresh, "restore", full)
    assert (fresh.state / "secrets" / "wh_1.json").read_text() == secret.read_text()


def test_a_backup_that_was_changed_or_is_none_is_refused(daemon, tmp_path):
    made = Path(command(daemon, "backup", tmp_path / "backup")["path"])
    with sqlite3.connect(made / "queue.db") as connection:
        connection.execute("DELETE FROM events")
        connection.execute("CREATE TABLE more (x)")
    connection.close()
    fresh = DaemonProcess(tmp_path / "fresh" / "state", daemon.environment)
    assert command(fresh, "restore", made, code=1)["code"] == "store_corrupt"
    assert command(fresh, "restore", tmp_path, code=1)["code"] == "not_found"
    assert not (fresh.state / "queue.db").exists()
    assert command(daemon, "restore", made, code=1)["code"] in (
        "store_corrupt",
        "state_directory_in_use",
    )


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for another user")
def test_what_root_restores_for_another_user_is_that_users(daemon, tmp_path):
    made = Path(command(daemon, "backup", tmp_path / "backup", "--with-secrets")["path"])
    fresh = DaemonProcess(tmp_path / "fresh" / "state", daemon.environment)
    fresh.state.mkdir(parents=True)
    os.chown(fresh.state, 65534, 65534)
    command(fresh, "restore", made)
    command(fresh, "rebuild", "--force")
    assert {path.stat().st_uid for path in fresh.state.iterdir()} == {65534}
