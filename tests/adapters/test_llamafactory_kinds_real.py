"""Exports, evaluations and trainings on models by the real LLaMA-Factory, over HTTP, on the tiny
model: what each kind of job is to leave is there, and is what it says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon_process import DaemonProcess, running_daemon
from tests.real_training import for_real

pytestmark = [pytest.mark.trainer, pytest.mark.timeout(1200)]

_SECONDS = 600
QUESTION, ANSWER = "Who are you?", "I am the queue."


class World:
    """A daemon, the tiny model it trains, and the adapter that a first job has left."""

    def __init__(self, daemon: DaemonProcess, base: str) -> None:
        self.daemon, self.base = daemon, base
        self.trained = self.train(base, "chat", additional_target="embed_tokens,lm_head")

    def train(self, model: str, name: str, **fields: Any) -> dict[str, Any]:
        asked: dict[str, Any] = {
            "model_name": model,
            "dataset_version": "taught",
            "lora_name": name,
            "cutoff_len": 128,
            "batch_size": 4,
            "gradient_accumulation_steps": 1,
            "learning_rate": 5e-3,
            "num_epochs": 8,
            "tracking_backend": "none",
        }
        job = self.daemon.submit(**(asked | fields))
        return self.done(job["job_id"])

    def done(self, job_id: str) -> dict[str, Any]:
        job = self.daemon.wait_for(job_id, "completed", "failed", seconds=_SECONDS)
        assert job["status"] == "completed", job["error"]
        return job

    def task(self, path: str, **body: Any) -> dict[str, Any]:
        response = self.daemon.client.post(path, json=body)
        assert response.status_code == 200, response.text
        return self.done(response.json()["job_id"])

    def answers(self, key: str) -> dict[str, str]:
        asked = {"prompts": [QUESTION], "max_new_tokens": 16}
        job = self.task(f"/models/{key}/evaluate", **asked)
        seen = self.daemon.client.get(f"/train/{job['job_id']}/evaluation").json()
        return {said["model_name"]: said["output"] for said in seen["answers"][0]["outputs"]}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("kinds")
    taught = folder / "datasets" / "taught"
    taught.mkdir(parents=True)
    rows = [{"instruction": QUESTION, "output": ANSWER}] * 40
    (taught / "train.json").write_text(json.dumps(rows))
    (taught / "dataset.json").write_text(json.dumps({"format": "alpaca", "train": "train.json"}))
    environment = {
        **for_real(tiny_model),
        "TRAINING_CLUSTER_DATASET_ROOTS": str(folder / "datasets"),
    }
    with running_daemon(folder / "state", environment) as daemon:
        yield World(daemon, str(tiny_model))


def test_an_evaluation_shows_what_the_adapter_has_learned(world: World) -> None:
    said = world.answers("chat@v1")
    assert said["chat@v1"] == ANSWER
    assert said[world.base] != ANSWER
    job = world.daemon.client.get("/train", params={"kind": "evaluate"}).json()["jobs"][0]
    assert job["progress"]["step"] == job["progress"]["total_steps"] == 2


@pytest.mark.slow
def test_a_merged_model_says_what_the_adapter_said_and_can_be_trained_on(world: World) -> None:
    merged = world.task("/models/chat@v1/export")["result"]
    assert merged["kind"] == "merged_model"
    assert (Path(merged["path"]) / "model.safetensors").stat().st_size > 100_000
    said = world.answers("chat-merged@v1")
    assert said["chat-merged@v1"] == ANSWER
    on = world.train("chat-merged", "on-merged", num_epochs=1)
    assert on["result"]["base_model"] == merged["path"]
    assert on["result"]["first_loss"] < world.trained["result"]["first_loss"] / 2


@pytest.mark.slow
def test_a_training_on_an_adapter_goes_on_with_it(world: World) -> None:
    before = world.trained["result"]
    on = world.train("chat@v1", "more", num_epochs=1)
    assert on["result"]["first_loss"] < before["first_loss"] / 2
    model = world.daemon.client.get("/models/more").json()
    assert model["base_model"] == world.base
    known = world.daemon.client.get("/models/chat@v1").json()
    assert model["parent_id"] == known["model_id"]
    assert world.answers("more@v1")["more@v1"] == ANSWER
    ranks = [
        json.loads((Path(path) / "adapter_config.json").read_text())["r"]
        for path in (before["path"], on["result"]["path"])
    ]
    assert ranks[0] == ranks[1]


@pytest.mark.slow
def test_a_training_on_a_checkpoint_goes_on_from_there(world: World) -> None:
    job = world.trained
    (last, *_) = world.daemon.client.get(
        f"/v1/fine_tuning/jobs/{job['number']}/checkpoints"
    ).json()["data"]
    on = world.train(f"job:{job['number']}@step-{last['step_number']}", "later", num_epochs=1)
    assert on["result"]["first_loss"] < job["result"]["first_loss"] / 2
    assert world.answers("later@v1")["later@v1"] == ANSWER


def test_a_model_whose_base_is_gone_is_refused_before_it_waits(world: World) -> None:
    key = "chat@v1"
    (Path(world.base) / "config.json").rename(Path(world.base) / "away.json")
    try:
        refused = world.daemon.client.post(f"/models/{key}/evaluate", json={"prompts": ["?"]})
        assert refused.json()["code"] == "model_not_allowed"
        assert refused.json()["errors"][0]["field"] == "model_name"
    finally:
        (Path(world.base) / "away.json").rename(Path(world.base) / "config.json")
