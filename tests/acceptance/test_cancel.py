"""Cancelling: queued, running, stubborn, finished, unknown."""

from __future__ import annotations

import time

import pytest

from tests.daemon_process import (
    eventually,
    processes_in,
    processes_of,
    running_daemon,
    trainer,
)
from tests.trust import Form, Promise


def test_a_queued_job_is_cancelled_at_once(held_daemon):
    held_daemon.submit()
    waiting = held_daemon.submit()["job_id"]
    response = held_daemon.client.delete(f"/train/{waiting}")
    assert response.json()["status"] == "cancelled"
    assert held_daemon.job(waiting)["status"] == "cancelled"


def test_a_running_job_is_stopped_and_its_device_goes_to_the_next(held_daemon):
    first, second = held_daemon.submit()["job_id"], held_daemon.submit()["job_id"]
    assert held_daemon.client.delete(f"/train/{first}").json()["status"] == "stopping"
    done = held_daemon.wait_for(first, "cancelled")
    assert done["error"] is None
    held_daemon.wait_for(second, "running")


def test_a_cancelled_job_leaves_no_process_behind(tmp_path):
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("stubborn"),
        "TRAINING_CLUSTER_GRACE_SECONDS": "0.5",
    }
    with running_daemon(tmp_path / "state", environment) as daemon:
        job = daemon.submit()["job_id"]
        directory = daemon.attempt_dir(job)
        eventually(lambda: len(processes_of(directory)) >= 3)
        daemon.client.delete(f"/train/{job}")
        daemon.wait_for(job, "cancelled")
        assert processes_of(directory) == []


SLOTS = 10
GRACE_SECONDS = 0.5
TREE = 5  # runner, trainer, a child and two orphans


def check(cancels: int, tmp_path, trust, form: Form) -> None:
    """Cancel so many stubborn trees, ten at a time; how long until nothing of one is left."""
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("stubborn"),
        "TRAINING_CLUSTER_GRACE_SECONDS": str(GRACE_SECONDS),
        "TRAINING_CLUSTER_CPU_SLOTS": str(SLOTS),
    }
    took: list[float] = []
    with running_daemon(tmp_path / "state", environment) as daemon:
        while len(took) < cancels:
            jobs = [daemon.submit()["job_id"] for _ in range(min(SLOTS, cancels - len(took)))]
            places = {job: daemon.attempt_dir(job) for job in jobs}
            eventually(lambda: all(len(processes_in(p)) >= TREE for p in places.values()), 60)  # noqa: B023
            began = {}
            for job in jobs:
                began[job] = time.monotonic()
                assert daemon.client.delete(f"/train/{job}").json()["status"] == "stopping"
            while places:
                for job in [job for job, place in places.items() if not processes_in(place)]:
                    took.append(time.monotonic() - began[job])
                    del places[job]
                assert time.monotonic() - began[jobs[-1]] < 30, places
                time.sleep(0.02)
            for job in jobs:
                daemon.wait_for(job, "cancelled")
        assert processes_of(daemon.state) == []
    late = [seconds for seconds in took if seconds > GRACE_SECONDS + 2]
    assert late == []
    trust(
        Promise.CANCEL,
        f"{len(took)} trees, {SLOTS} at a time: 0 processes left, the last one "
        f"{max(took) - GRACE_SECONDS:.2f} s after its grace",
        form=form,
    )


def test_cancelled_trees_that_ignore_it_leave_no_process_behind(tmp_path, trust):
    check(20, tmp_path, trust, "short")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_hundred_cancelled_trees_leave_no_process_behind(tmp_path, trust):
    check(200, tmp_path, trust, "full")


def test_cancelling_right_after_submitting_always_ends_in_cancelled(tmp_path):
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("stubborn"),
        "TRAINING_CLUSTER_GRACE_SECONDS": "0",
    }
    with running_daemon(tmp_path / "state", environment) as daemon:
        for _ in range(15):
            job = daemon.submit()["job_id"]
            assert daemon.client.delete(f"/train/{job}").status_code == 200
            daemon.wait_for(job, "cancelled")
        assert processes_of(daemon.state) == []


def test_a_finished_job_cannot_be_cancelled(quick_daemon):
    job = quick_daemon.submit()["job_id"]
    quick_daemon.wait_for(job)
    response = quick_daemon.client.delete(f"/train/{job}")
    assert response.status_code == 409
    assert response.json()["code"] == "job_already_finished"


@pytest.mark.parametrize("key", ["550e8400-e29b-41d4-a716-446655440000", "77", "..%2f..", "x"])
def test_an_unknown_job_is_not_found(quick_daemon, key):
    for call in (quick_daemon.client.delete, quick_daemon.client.get):
        response = call(f"/train/{key}")
        assert response.status_code == 404
        assert response.headers["content-type"] == "application/problem+json"


def test_a_job_that_runs_too_long_is_stopped(tmp_path):
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("stubborn"),
        "TRAINING_CLUSTER_GRACE_SECONDS": "0.2",
    }
    with running_daemon(tmp_path / "state", environment) as daemon:
        job = daemon.submit(max_seconds=0.5)["job_id"]
        failed = daemon.wait_for(job, "failed")
        assert failed["error"]["code"] == "timed_out"
        assert processes_of(daemon.attempt_dir(job)) == []
