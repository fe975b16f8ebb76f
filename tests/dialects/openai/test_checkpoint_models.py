"""Checkpoints as models: looked at, trained on, never mistaken for the model of their job."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.daemon_process import eventually
from tests.dialects.openai.test_models import JOBS, MODELS, tuned
from training_cluster.api.dialects.openai.names import native_job


@pytest.fixture(scope="module")
def trained(quick):
    """A job with checkpoints at the steps 4, 8 and 12."""
    return tuned(quick, suffix="steps")


def submitted(quick, model, **fields):
    return quick.client.post(JOBS, json={"model": model, "training_file": "v1.0", **fields})


def native(daemon, job) -> dict:
    """The job as the native API shows it."""
    return daemon.job(native_job(job["id"]))


def config_of(quick, job) -> dict:
    """What the trainer of its first attempt was told."""
    folder = Path(quick.state) / "jobs" / native_job(job["id"])
    written = folder / "attempt-1" / "config.yaml"
    return eventually(lambda: json.loads(written.read_text()) if written.is_file() else None)


def test_a_checkpoint_is_a_model_by_the_name_its_job_lists(quick, trained):
    (listed, *_) = quick.client.get(f"{JOBS}/{trained['id']}/checkpoints").json()["data"]
    name = listed["fine_tuned_model_checkpoint"]
    seen = quick.client.get(f"{MODELS}/{name}").json()
    assert seen == {
        "id": name,
        "object": "model",
        "created": listed["created_at"],
        "owned_by": trained["organization_id"],
    }


def test_a_job_starts_from_the_checkpoint_it_names(quick, trained):
    name = f"{trained['fine_tuned_model']}:ckpt-step-8"
    job = tuned(quick, model=name)
    assert job["model"] == name
    config = config_of(quick, job)
    assert config["model_name_or_path"] == "owner/base"
    assert config["adapter_name_or_path"].endswith("/attempt-1/output/checkpoint-8")
    assert native(quick, job)["config"]["checkpoint"].endswith("@step-8")


def test_the_native_name_means_the_same(quick, trained):
    number = trained["fine_tuned_model"].rpartition(":")[2]
    made = quick.submit(model_name=f"job:{number}@step-4")
    assert quick.job(made["number"])["config"]["checkpoint"].endswith("@step-4")


@pytest.mark.parametrize("step", [5, 16, 10**11])
def test_a_step_nobody_saved_is_refused_and_not_found(quick, trained, step):
    name = f"{trained['fine_tuned_model']}:ckpt-step-{step}"
    assert quick.client.get(f"{MODELS}/{name}").status_code == 404
    refused = submitted(quick, name)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "model"


@pytest.mark.parametrize("name", ["job:99999@step-4", "job:x", "job:1@4", "job:@step-1"])
def test_what_is_no_checkpoint_is_refused_by_the_native_field(quick, name):
    refused = quick.client.post("/train", json={"model_name": name})
    assert refused.status_code == 422, refused.text
    (problem,) = refused.json()["errors"]
    assert problem["field"] == "model_name"
    assert "job:7@step-100" in problem["expected"]


def test_deleting_a_checkpoint_leaves_the_model_of_its_job_alone(quick, trained):
    model = trained["fine_tuned_model"]
    refused = quick.client.delete(f"{MODELS}/{model}:ckpt-step-4")
    assert refused.status_code == 400, "SDKs would ask again after 409"
    assert quick.client.get(f"{MODELS}/{model}").status_code == 200
