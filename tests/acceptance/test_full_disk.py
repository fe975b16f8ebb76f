"""A full disk costs nobody a job: submissions are refused, everything else goes on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon_process import DaemonProcess, eventually, running_daemon, trainer
from tests.small_disk import fill, small_disk

BALLAST = 4 << 20


@pytest.fixture
def daemon(tmp_path: Path, record: Path) -> Iterator[DaemonProcess]:
    """Two slots and a state directory on a disk of 40 MiB; its jobs end with exit code 7."""
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("recording", record, 120, 7),
        "TRAINING_CLUSTER_CPU_SLOTS": "2",
    }
    with (
        small_disk(tmp_path / "state", 40) as state,
        running_daemon(state, environment) as daemon,
    ):
        yield daemon


def disk_events(daemon: DaemonProcess) -> list[str]:
    found = daemon.client.get("/events", params={"limit": 1000}).json()["events"]
    return [event["type"] for event in found if event["type"].startswith("disk.")]


def disk_check(daemon: DaemonProcess) -> tuple[int, bool]:
    answer = daemon.client.get("/readyz")
    (check,) = (check for check in answer.json()["checks"] if check["name"] == "disk")
    return answer.status_code, check["ok"]


def wait_for_words(daemon: DaemonProcess, job: dict[str, str]) -> None:
    """Until the trainer has printed: a print that meets a full disk changes its exit code."""
    address = f"/train/{job['job_id']}/logs"
    eventually(lambda: "trained for" in daemon.client.get(address).text)


def read_stream(daemon: DaemonProcess, job_id: str) -> tuple[threading.Thread, list[str]]:
    """Follow a job's log in a thread, into a list of lines."""
    lines: list[str] = []

    def follow() -> None:
        address = f"/train/{job_id}/logs/stream"
        with daemon.client.stream("GET", address, timeout=60) as answer:
            lines.extend(answer.iter_lines())

    thread = threading.Thread(target=follow)
    thread.start()
    return thread, lines


def test_a_full_disk_refuses_submissions_and_loses_nothing(daemon, record):
    first, second = daemon.submit(), daemon.submit()
    queued = daemon.submit()
    wait_for_words(daemon, first)
    wait_for_words(daemon, second)
    thread, lines = read_stream(daemon, first["job_id"])
    assert (daemon.state / "ballast").stat().st_blocks * 512 >= BALLAST
    assert disk_check(daemon) == (200, True)

    filler = fill(daemon.state)
    refused = eventually(lambda: _refusal(daemon))
    assert refused["code"] == "storage_full"
    assert "prune" in refused["hint"]
    assert disk_check(daemon) == (503, False)
    assert daemon.client.get("/healthz").status_code == 200
    assert daemon.client.get("/queue").json()["disk"]["is_full"] is True

    # a cancel works, and what its device was given up for does not start into a full disk
    assert daemon.client.delete(f"/train/{second['job_id']}").status_code == 200
    daemon.wait_for(second["job_id"], "cancelled")
    waiting = daemon.job(queued["job_id"])
    assert waiting["status"] == "queued"
    assert waiting["wait_reason"]["code"] == "disk"

    # a trainer that ends is recorded with its true exit code, and its stream sees the end
    (record / "release").touch()
    ended = daemon.wait_for(first["job_id"], "failed")
    assert ended["attempts"][0]["exit_code"] == 7
    thread.join(20)
    assert any("trained for" in line for line in lines)
    assert any('"failed"' in line for line in lines)
    eventually(lambda: disk_events(daemon) == ["disk.full"])

    filler.unlink()
    eventually(lambda: disk_check(daemon) == (200, True))
    daemon.wait_for(queued["job_id"], "failed")  # it ran: its exit code is 7 as well
    daemon.wait_for(daemon.submit()["job_id"], "failed")
    assert disk_events(daemon) == ["disk.full", "disk.recovered"]
    assert (daemon.state / "ballast").stat().st_blocks * 512 >= BALLAST


def _refusal(daemon: DaemonProcess) -> dict[str, str] | None:
    answer = daemon.client.post("/train", json={})
    return answer.json() if answer.status_code == 507 else None


@pytest.mark.parametrize("ballast_is_left", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_daemon_killed_on_a_full_disk_comes_up_and_tells_how_jobs_ended(
    daemon, record, ballast_is_left
):
    job = daemon.submit()
    wait_for_words(daemon, job)
    filler = fill(daemon.state)
    eventually(lambda: _refusal(daemon))
    daemon.kill()
    if not ballast_is_left:
        (daemon.state / "ballast").unlink()
    fill(daemon.state)
    daemon.start()
    (record / "release").touch()
    if ballast_is_left:
        daemon.wait_for(job["job_id"], "failed")
    assert disk_check(daemon) == (503, False)
    assert daemon.job(job["job_id"])["status"] in ("running", "failed")
    filler.unlink()
    eventually(lambda: disk_check(daemon) == (200, True))
    ended = daemon.wait_for(job["job_id"], "failed")
    assert ended["attempts"][0]["exit_code"] == 7


def test_two_hundred_acknowledged_jobs_outlive_the_disk_filling_up_under_them(daemon):
    """The disk fills while jobs come in: whatever was acknowledged is there, the rest got 507."""
    acknowledged = [daemon.submit()["job_id"] for _ in range(50)]
    filler = fill(daemon.state)
    answers = []
    while len(answers) < 150:
        answer = daemon.client.post("/train", json={"save_name": "x" * 60})
        answers.append(answer.status_code)
        if answer.status_code == 200:
            acknowledged.append(answer.json()["job_id"])
    assert set(answers) <= {200, 507}
    assert 507 in answers or eventually(lambda: _refusal(daemon))
    daemon.kill()
    filler.unlink()
    daemon.start()
    assert all(daemon.client.get(f"/train/{job}").status_code == 200 for job in acknowledged)
