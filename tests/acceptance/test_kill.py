"""The daemon may die at any moment: nothing is lost, nothing runs twice."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys

import pytest

from tests.daemon_process import (
    DaemonProcess,
    eventually,
    processes_of,
    running_daemon,
    trainer,
)


def launches(record):
    lines = (record / "launches").read_text().splitlines() if (record / "launches").exists() else []
    return [json.loads(line) for line in lines]


def test_kill_9_with_two_running_and_twenty_queued(tmp_path, record):
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("recording", record, 60, 7),
        "TRAINING_CLUSTER_CPU_SLOTS": "2",
    }
    with running_daemon(tmp_path / "state", environment) as daemon:
        running = [daemon.submit()["job_id"] for _ in range(2)]
        waiting = [daemon.submit()["job_id"] for _ in range(20)]
        eventually(lambda: len(launches(record)) == 2)
        daemon.kill()
        (record / "release").touch()
        for job in running:
            eventually(lambda job=job: (daemon.attempt_dir(job) / "exit.json").exists())
        (record / "release").unlink()
        daemon.environment["TRAINING_CLUSTER_TRAINER__COMMAND"] = trainer(
            "recording", record, 0.02, 0
        )
        daemon.start()
        for job in running:
            done = daemon.wait_for(job, "failed")
            assert done["attempts"][0]["exit_code"] == 7, "the true exit code"
        for job in waiting:
            assert daemon.wait_for(job)["status"] == "completed"
    assert sorted(launch["attempt"][0] for launch in launches(record)) == running + waiting, (
        "each exactly once"
    )
    assert started_in_order(tmp_path / "state") == running + waiting


def started_in_order(state) -> list[str]:
    """The jobs in the order in which their attempts were claimed."""
    connection = sqlite3.connect(state / "queue.db")
    rows = connection.execute(
        "SELECT j.id FROM events e JOIN jobs j ON j.number = e.job_number"
        " WHERE e.type = 'job.starting' ORDER BY e.sequence"
    ).fetchall()
    connection.close()
    return [row[0] for row in rows]


def test_a_running_trainer_is_adopted_and_its_end_is_seen(tmp_path, record):
    environment = {"TRAINING_CLUSTER_TRAINER__COMMAND": trainer("recording", record, 60, 5)}
    with running_daemon(tmp_path / "state", environment) as daemon:
        job = daemon.submit()["job_id"]
        eventually(lambda: launches(record))
        daemon.kill()
        daemon.start()
        assert daemon.job(job)["status"] == "running"
        (record / "release").touch()
        assert daemon.wait_for(job, "failed")["attempts"][0]["exit_code"] == 5
        assert len(launches(record)) == 1


def test_an_adopted_job_can_be_cancelled(tmp_path):
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("stubborn"),
        "TRAINING_CLUSTER_GRACE_SECONDS": "0.3",
    }
    with running_daemon(tmp_path / "state", environment) as daemon:
        job = daemon.submit()["job_id"]
        eventually(lambda: len(processes_of(daemon.attempt_dir(job))) >= 3)
        daemon.kill()
        daemon.start()
        daemon.client.delete(f"/train/{job}")
        daemon.wait_for(job, "cancelled")
        assert processes_of(daemon.state) == []


def test_a_graceful_stop_leaves_jobs_running_and_costs_no_retry(tmp_path, record):
    environment = {"TRAINING_CLUSTER_TRAINER__COMMAND": trainer("recording", record, 60, 0)}
    with running_daemon(tmp_path / "state", environment) as daemon:
        job = daemon.submit()["job_id"]
        eventually(lambda: launches(record))
        assert daemon.stop() == 0
        assert len(processes_of(daemon.attempt_dir(job))) == 1
        daemon.start()
        (record / "release").touch()
        done = daemon.wait_for(job)
        assert (done["status"], len(done["attempts"])) == ("completed", 1)


@pytest.mark.parametrize("policy", ["resume", "fail"])
def test_a_job_whose_runner_was_killed_is_lost_and_swept(tmp_path, policy):
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("stubborn"),
        "TRAINING_CLUSTER_RECOVERY__LOST_ATTEMPTS": policy,
    }
    with running_daemon(tmp_path / "state", environment) as daemon:
        job = daemon.submit()["job_id"]
        directory = daemon.attempt_dir(job)
        eventually(lambda: len(processes_of(directory)) >= 3)
        pids = json.loads((directory / "pid.json").read_text())
        subprocess.run(["kill", "-9", str(pids["runner"]["pid"])], check=True)
        eventually(lambda: daemon.job(job)["attempts"][0]["outcome"] == "lost")
        assert processes_of(directory) == []
        if policy == "fail":
            assert daemon.wait_for(job, "failed")["error"]["code"] == "lost"
        else:
            again = daemon.wait_for(job, "running")
            assert [attempt["outcome"] for attempt in again["attempts"]] == ["lost", None]


def test_progress_and_metrics_are_followed_across_a_restart(tmp_path):
    environment = {"TRAINING_CLUSTER_TRAINER__COMMAND": trainer("stepping", 40, 0.05)}
    with running_daemon(tmp_path / "state", environment) as daemon:
        job = daemon.submit()["job_id"]
        eventually(lambda: (daemon.job(job)["progress"] or {}).get("step", 0) > 3)
        daemon.kill()
        daemon.start()
        done = daemon.wait_for(job)
        assert done["progress"]["step"] == done["progress"]["total_steps"] == 40
        assert done["metrics"]["train/loss"] == 0.1


def serve_in_vain(daemon: DaemonProcess, state, port: int = 0) -> str:
    """Start a daemon that must refuse: exit status 1 and no traceback; returns what it says."""
    command = [sys.executable, "-m", "training_cluster", "serve", "--port", str(port)]
    refused = subprocess.run(
        [*command, "--state-dir", str(state)],
        env=daemon.environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr
    return refused.stderr


def test_a_second_daemon_on_the_state_directory_exits_1_and_names_the_first(quick_daemon):
    said = serve_in_vain(quick_daemon, quick_daemon.state)
    assert f"pid {quick_daemon.process.pid}" in said


def test_a_port_in_use_ends_the_daemon_before_it_touches_jobs(quick_daemon, tmp_path):
    assert "cannot listen" in serve_in_vain(quick_daemon, tmp_path / "other", quick_daemon.port)
    assert not (tmp_path / "other").exists()


def test_a_damaged_database_is_refused_not_replaced(quick_daemon, tmp_path):
    state = tmp_path / "damaged"
    state.mkdir()
    (state / "queue.db").write_bytes(b"these bytes are no database " * 500)
    assert "error: the database is damaged" in serve_in_vain(quick_daemon, state)
    assert (state / "queue.db").read_bytes().startswith(b"these bytes")


def test_a_database_of_a_later_version_is_refused_in_one_line(quick_daemon, tmp_path):
    quick_daemon.stop()
    connection = sqlite3.connect(quick_daemon.state / "queue.db")
    connection.execute(
        "INSERT INTO _sqlite_migrations (migration_set, name, applied_at)"
        " VALUES ('training_cluster', 'm9999_of_next_year', '2030-01-01')"
    )
    connection.commit()
    connection.close()
    said = serve_in_vain(quick_daemon, quick_daemon.state)
    assert "written by a later version" in said
    assert "docs/upgrading.md" in said


def test_recovery_starts_an_attempt_that_was_claimed_but_never_started(tmp_path, record):
    """The moment between claim and start, made by removing what the start left."""
    environment = {"TRAINING_CLUSTER_TRAINER__COMMAND": trainer("recording", record, 60, 0)}
    with running_daemon(tmp_path / "state", environment) as daemon:
        job = daemon.submit()["job_id"]
        eventually(lambda: launches(record))
        directory = daemon.attempt_dir(job)
        daemon.kill()
        for pid in processes_of(daemon.state):
            subprocess.run(["kill", "-9", str(pid)], check=True)
        eventually(lambda: (directory / "exit.json").exists())
        for name in ("exit.json", "started", "pid.json"):
            (directory / name).unlink()
        daemon.start()
        eventually(lambda: len(launches(record)) == 2)
        assert launches(record)[1]["attempt"] == launches(record)[0]["attempt"]
        (record / "release").touch()
        assert daemon.wait_for(job)["status"] == "completed"


def test_the_state_directory_is_private(quick_daemon: DaemonProcess):
    assert quick_daemon.state.stat().st_mode & 0o077 == 0
