"""Lamini's real clients against a daemon: a script of theirs works by its address alone."""

from __future__ import annotations

import pytest

from tests.daemon_process import running_daemon, trainer
from tests.dialects.lamini.stories import ROWS, STEPS, story, url

MODEL = "meta-llama/Llama-3.2-3B-Instruct"
# a status may be missed between two looks, but none comes before an earlier one
ORDER = ["SCHEDULED", "LOADING DATA", "TRAINING MODEL", "SAVING MODEL", "COMPLETED"]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    """A daemon whose trainer does as many steps as it is asked for, and saves every third."""
    environment = {"TRAINING_CLUSTER_TRAINER__COMMAND": trainer("asked", 0.02, 3)}
    with running_daemon(tmp_path_factory.mktemp("lamini") / "state", environment) as daemon:
        yield daemon


@pytest.fixture(scope="module", params=["3.4.3", "2.0.13"])
def told(request, daemon, lamini_python):
    client = lamini_python(request.param)
    return client.version, story(daemon, client, MODEL, index_k=2)


def test_a_training_is_submitted_polled_and_completed(daemon, told):
    version, story = told
    job = story.one("submitted")["job"]
    assert isinstance(job["job_id"], int)
    assert job["status"] == "CREATED"
    assert any("index_k" in warning for warning in job["warnings"])
    if version > "3":  # it prints what the daemon wants its user to know
        assert any("index_k had no effect" in line for line in story.printed)
    over = story.one("over")
    assert over["status"]["status"] == "COMPLETED"
    places = [ORDER.index(each) for each in over["seen"]]
    assert places == sorted(places)
    assert over["status"]["dataset_id"] == job["dataset_id"]
    assert over["status"]["custom_model_name"] == ("faq bot" if version > "3" else None)
    assert [line["step"] for line in over["history"]] == list(range(1, STEPS + 1))
    assert all(line["loss"] > 0 for line in over["history"])


def test_the_model_has_its_name_and_both_models_answer(daemon, told):
    version, story = told
    base = story.one("over")["status"]["base_model_name"]
    over = story.one("over")["status"]
    model = daemon.client.get(f"/models/{over['model_name']}").json()
    assert model["job_number"] == over["job_id"]
    unnamed = f"{base.rpartition('/')[2]}-{over['job_id']}"
    assert model["name"] == ("faq-bot" if version > "3" else unnamed)
    evaluated = story.one("evaluated")["answer"]
    assert evaluated["job_id"] == over["job_id"]
    assert evaluated["status"] == "COMPLETED"
    (first, *_) = evaluated["eval_results"]
    assert isinstance(first["input"], str)
    assert [each["model_name"] for each in first["outputs"]] == [base, over["model_name"]]
    assert all(isinstance(each["output"], str) for each in first["outputs"])
    assert daemon.job(evaluated["eval_job_id"])["config"]["kind"] == "evaluate"
    early = story.one("no model yet")
    assert early["error"] == "UserError"
    assert "no model to evaluate" in early["said"]


def test_its_rows_are_what_is_trained_on(daemon, told):
    _, story = told
    submitted = story.one("submitted")
    assert submitted["place"].startswith(url(daemon))
    found = daemon.client.get(f"/datasets/{submitted['job']['dataset_id']}/preview")
    assert found.json()["rows"][1] == {
        "prompt": ROWS[1]["input"],
        "completion": ROWS[1]["output"],
    }


def test_the_same_data_is_trained_on_again_by_its_id(daemon, told):
    _, story = told
    first, again = story.one("submitted")["job"], story.one("again")["job"]
    assert again["dataset_id"] == first["dataset_id"]
    versions = {daemon.job(job["job_id"])["config"]["dataset_version"] for job in (first, again)}
    assert len(versions) == 1


def test_a_cancelled_training_has_saved_and_can_be_resumed(daemon, told):
    version, story = told
    assert story.one("cancelled")["answer"]["status"] == "CANCELLED"
    number = story.one("again")["job"]["job_id"]
    stopped = story.one("stopped")["status"]
    assert stopped["status"] == "PARTIALLY COMPLETED"
    assert daemon.job(number)["status"] == "paused"
    attempts = daemon.job(number)["attempts"]
    if version > "3":
        assert story.one("went on")["status"]["status"] == "TRAINING MODEL"
        assert attempts[1]["resumed_from_step"] == attempts[0]["checkpoint_step"] > 3
        assert stopped["resume_count"] == 1
        assert [job["job_id"] for job in story.one("all cancelled")["answer"]["jobs"]] == [number]
    else:
        assert stopped["resume_count"] == 0


def test_all_of_ones_jobs_are_listed_whichever_api_they_came_by(daemon, told):
    _, story = told
    native = daemon.submit()
    try:
        listed = daemon.client.get("/v1/train/jobs").json()
        numbers = [job["job_id"] for job in listed]
        assert numbers == sorted(numbers, reverse=True)
        assert native["number"] in numbers
        own = {story.one("submitted")["job"]["job_id"], story.one("again")["job"]["job_id"]}
        assert own <= {job["job_id"] for job in story.one("listed")["jobs"]} <= set(numbers)
    finally:
        daemon.client.delete(f"/train/{native['job_id']}")


def test_what_is_refused_is_raised_as_the_sdk_knows_it(told):
    version, story = told
    new = version > "3"
    raised = {step: story.one(step) for step in ("no such job", "no such model", "no token")}
    assert raised["no such model"]["error"] == ("ModelNotFoundError" if new else "ModelNotFound")
    assert "/nowhere/at/all" in raised["no such model"]["said"]
    assert raised["no such job"]["error"] == "APIError"
    assert "there is no job '999999'" in raised["no such job"]["said"]
    assert raised["no token"]["error"] == "AuthenticationError"
    wrong = story.one("wrong argument")
    assert wrong["error"] == "UserError"
    assert "max_steps" in wrong["said"]
    over = story.one("over already")
    assert over["error"] == "UserError"
    assert "already completed" in over["said"]


def test_the_client_finds_out_what_is_here(told):
    version, story = told
    missing = story.one("not here")
    assert missing["error"] == "APIError"
    assert "there is nothing at /v1/completions" in missing["said"]
    if version > "3":  # it says who it is, and there are routes of this name in other dialects
        assert "/v1/train" in missing["said"]
        found = story.one("version")
        assert found["features"]["train"] == [1]
        assert {"api", "server", "client"} == set(found["version"])


def test_a_refused_request_leaves_no_dataset_behind(daemon, told):
    """The request with an unknown model had its data in it or had sent it before."""
    before = daemon.client.get("/datasets").json()["datasets"]
    body = {"model_name": "/nowhere", "data": ROWS}
    assert daemon.client.post("/v1/train", json=body).status_code == 594
    assert daemon.client.get("/datasets").json()["datasets"] == before
