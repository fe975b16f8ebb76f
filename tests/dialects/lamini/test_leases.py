"""gpu_config becomes leases of real devices, and one caller's patience has an end: 429."""

from __future__ import annotations

import json

import pytest

from tests.daemon_process import eventually, running_daemon, trainer

BODY = {"model_name": "meta-llama/Llama-3.2-3B-Instruct", "dataset_id": "v1.0"}


@pytest.fixture
def daemon(tmp_path, record, fake_nvml):
    """Four simulated GPUs of 80 GiB, and one waiting job for each user."""
    fake_nvml.gpus(4, total_gib=80)
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("recording", record, 600, 0),
        "TRAINING_CLUSTER_DEVICES__KIND": "auto",
        "TRAINING_CLUSTER_LIMITS__QUEUED_PER_USER": "1",
        **fake_nvml.environment(),
    }
    with running_daemon(tmp_path / "state", environment) as started:
        yield started


def train(daemon, config, status=200):
    response = daemon.client.post("/v1/train", json={**BODY, "gpu_config": config})
    assert response.status_code == status, response.text
    return response.json()


def end(daemon, number):
    daemon.client.delete(f"/train/{number}")
    daemon.wait_for(number, "cancelled", seconds=60)


@pytest.mark.parametrize(
    ("config", "leased", "words"),
    [
        (None, 1, None),
        ({"gpus": 0, "nodes": 0}, 1, None),
        ({"gpus": 2, "nodes": 1}, 2, None),
        ({"gpus": 2, "nodes": 2}, 4, "one machine"),
        ({"gpus": 8}, 4, "8 GPUs and 4 of this machine"),
        ({"gpus": 3, "min_gpu_memory": 79}, 3, None),
    ],
)
def test_as_many_devices_are_leased_as_gpu_config_asks_for(daemon, record, config, leased, words):
    made = train(daemon, config)
    daemon.wait_for(made["job_id"], "running", seconds=60)
    launches = record / "launches"
    text = eventually(lambda: launches.exists() and launches.read_text(), 60)
    (launch,) = map(json.loads, text.splitlines())
    assert len(set(launch["devices"].split(","))) == leased
    assert len(daemon.job(made["job_id"])["devices"]) == leased
    assert (words in made["warnings"][0]) if words else made["warnings"] == []
    end(daemon, made["job_id"])


def test_what_no_gpu_of_the_machine_could_serve_is_refused(daemon):
    detail = train(daemon, {"gpus": 1, "min_gpu_memory": 81}, 400)["detail"]
    assert "at least 81 GiB, and 0 of the 4" in detail


def test_who_has_as_many_waiting_jobs_as_one_may_is_told_429(daemon):
    running = train(daemon, {"gpus": 4})["job_id"]
    daemon.wait_for(running, "running", seconds=60)
    waiting = train(daemon, {"gpus": 4})["job_id"]
    assert daemon.client.get(f"/v1/train/jobs/{waiting}").json()["status"] == "SCHEDULED"
    refused = train(daemon, {"gpus": 4}, 429)
    assert "jobs waiting" in refused["detail"]
    end(daemon, waiting)
    end(daemon, running)
