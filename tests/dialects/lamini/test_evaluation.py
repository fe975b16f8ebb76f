"""Lamini's evaluate: a job that is asked for once, waits its turn and answers for both models."""

from __future__ import annotations

import pytest

from tests.daemon_process import eventually, running_daemon, trainer

MODEL = "meta-llama/Llama-3.2-3B-Instruct"


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """Evaluations run until `release` is there."""
    return tmp_path_factory.mktemp("record")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory, record):
    environment = {"TRAINING_CLUSTER_TRAINER__COMMAND": trainer("kinds", record, 600)}
    with running_daemon(tmp_path_factory.mktemp("evaluation") / "state", environment) as daemon:
        yield daemon


def asked(daemon, number, wait=0, **more):
    path = f"/v1/train/jobs/{number}/eval"
    response = daemon.client.get(path, params={"wait": wait}, timeout=120, **more)
    assert response.status_code == 200, response.text
    return response.json()


def trained(daemon):
    """The number of a training that has left a model."""
    body = {"model_name": MODEL, "dataset_id": "v1.0"}
    number = daemon.client.post("/v1/train", json=body).json()["job_id"]
    daemon.wait_for(number, "completed", seconds=120)
    return number


def test_one_that_was_cancelled_is_asked_for_anew(daemon):
    number = trained(daemon)
    first = asked(daemon, number)["eval_job_id"]
    daemon.client.delete(f"/train/{first}")
    eventually(lambda: daemon.job(first)["status"] == "cancelled", 60)
    second = asked(daemon, number)
    assert second["eval_job_id"] != first
    assert second["status"] == "EVALUATING MODEL"
    daemon.client.delete(f"/train/{second['eval_job_id']}")


def test_an_evaluation_is_asked_for_once_and_answers_when_it_is_over(daemon, record):
    number = trained(daemon)
    first = asked(daemon, number)
    assert (first["job_id"], first["status"]) == (number, "EVALUATING MODEL")
    assert first["eval_results"] == []
    assert asked(daemon, number)["eval_job_id"] == first["eval_job_id"]
    # of the training nothing has changed, and the evaluation is none
    assert daemon.client.get(f"/v1/train/jobs/{number}").json()["status"] == "COMPLETED"
    listed = [job["job_id"] for job in daemon.client.get("/v1/train/jobs").json()]
    assert number in listed
    assert first["eval_job_id"] not in listed
    (record / "release").touch()
    over = asked(daemon, number, wait=50)
    assert (over["status"], over["eval_job_id"]) == ("COMPLETED", first["eval_job_id"])
    (result,) = over["eval_results"]
    assert set(result) == {"input", "outputs"}
    assert [set(each) for each in result["outputs"]] == [{"model_name", "output"}] * 2


def test_it_is_for_the_owner_of_the_job_and_of_a_public_model_for_everybody(daemon):
    number = trained(daemon)
    token = daemon.client.post("/tokens", json={"user": "bob"}).json()["token"]
    bob = {"Authorization": f"Bearer {token}"}
    refused = daemon.client.get(f"/v1/train/jobs/{number}/eval", headers=bob)
    assert refused.status_code == 403
    assert "belongs to" in refused.json()["detail"]
    model = daemon.client.get(f"/v1/train/jobs/{number}").json()["model_name"]
    assert daemon.client.patch(f"/models/{model}", json={"is_public": True}).status_code == 200
    his = asked(daemon, number, headers=bob)
    assert daemon.job(his["eval_job_id"])["user"] == "bob"


def test_a_tuned_model_is_trained_on_with_the_rank_it_has(daemon):
    number = trained(daemon)
    model = daemon.client.get(f"/v1/train/jobs/{number}").json()["model_name"]
    body = {"model_name": model, "data": [{"input": "a", "output": "b"}]}
    plain = daemon.client.post("/v1/train", json=body).json()
    assert plain["warnings"] == []
    body["finetune_args"] = {"r_value": 8}
    ranked = daemon.client.post("/v1/train", json=body).json()
    assert [each.partition(":")[0] for each in ranked["warnings"]] == ["lora_rank has no effect"]
    for job in (plain, ranked):  # neither is warned again once the data was checked
        done = daemon.wait_for(job["job_id"], "completed", seconds=120)
        assert done["warnings"] == job["warnings"]
