"""A job whose files would not fit waits for room, blocks nobody, and starts when there is some."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon_process import DaemonProcess, eventually, running_daemon, trainer
from tests.small_disk import small_disk

LARGE = {"model_name": "org/some-125m", "num_epochs": 50.0, "save_steps": 500}
SMALL = {"model_name": "org/some-125m", "overrides": {"max_steps": 10}}


@pytest.fixture
def daemon(tmp_path: Path, record: Path) -> Iterator[DaemonProcess]:
    """Three slots, a disk of 1 GiB that all is held against."""
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("recording", record, 120, 0),
        "TRAINING_CLUSTER_CPU_SLOTS": "3",
        "TRAINING_CLUSTER_DISK__PREFLIGHT": "true",
        "TRAINING_CLUSTER_DISK__RESERVE_MIB": "64",
    }
    with (
        small_disk(tmp_path / "state", 1024) as state,
        running_daemon(state, environment) as daemon,
    ):
        yield daemon


def test_a_job_waits_for_room_and_those_that_fit_pass_it(daemon, record):
    first = daemon.submit(**SMALL, max_samples=20)
    daemon.wait_for(first["job_id"], "running")
    need = daemon.job(first["job_id"])["disk_bytes"]
    filler = daemon.state / "filler"
    free = daemon.client.get("/queue").json()["disk"]["available_bytes"]
    with filler.open("wb") as file:
        file.write(bytes(free - need * 3 // 2))  # one more like it fits
    eventually(lambda: daemon.client.get("/queue").json()["disk"]["available_bytes"] < 2 * need)

    waits = daemon.submit(**SMALL, save_steps=2)
    passes = daemon.submit(**SMALL)
    daemon.wait_for(passes["job_id"], "running")
    view = daemon.job(waits["job_id"])
    assert view["status"] == "queued"
    assert view["wait_reason"]["code"] == "disk"
    assert "GiB" in view["wait_reason"]["message"] or "MiB" in view["wait_reason"]["message"]
    assert "prune" in view["wait_reason"]["message"]
    filler.unlink()
    daemon.wait_for(waits["job_id"], "running")
    (record / "release").touch()
    for job in (first, waits, passes):
        daemon.wait_for(job["job_id"], "completed")


def test_a_job_the_disk_could_never_hold_is_refused_with_what_would_fit(daemon):
    many = daemon.client.post("/train", json={**LARGE, "save_steps": 50})
    assert many.status_code == 422
    body = many.json()
    assert body["code"] == "impossible_request"
    assert body["errors"][0]["field"] == "save_steps"
    assert "save_total_limit" in body["errors"][0]["expected"]
    whole = daemon.client.post("/train", json={**LARGE, "recipe": "full_sft"})
    assert whole.status_code == 422
    assert whole.json()["errors"][0]["field"] == "model_name"
