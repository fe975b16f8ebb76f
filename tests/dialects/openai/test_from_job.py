"""A job of ours as OpenAI's clients see it, at each moment of its life and whoever made it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.factories import ALICE, BOB, NOW, a_new_job
from training_cluster.api.dialects.openai import names
from training_cluster.api.dialects.openai.from_job import STATUSES, body
from training_cluster.domain.dialect import DialectRequest
from training_cluster.domain.job import Job, JobError, JobState

SAID = {"training_file": "file-1", "validation_file": None, "metadata": {"a": "b"}}


def a_job(state=JobState.QUEUED, *, request=True, **fields):
    spec = {k: fields.pop(k) for k in list(fields) if k not in Job.__dataclass_fields__}
    new = a_new_job(**{"model_name": "owner/base", "dataset_version": "v1.0", **spec})
    job = Job(
        id=new.id,
        number=7,
        state=state,
        user="alice",
        spec=new.spec,
        priority=0,
        attempt_number=1,
        created_at=NOW + 0.7,
        request=DialectRequest("openai", SAID) if request else None,
    )
    return replace(job, **fields)


def finished(state, **fields):
    values = {"finished_at": NOW + 60.9, "metrics": {"train/loss": 1.0}, **fields}
    return a_job(state, **values)


def test_every_state_has_a_status():
    assert STATUSES.keys() == set(JobState)
    assert body(a_job(), ALICE, checking=True)["status"] == "validating_files"
    assert body(a_job(JobState.RUNNING), ALICE, checking=True)["status"] == "running"


@pytest.mark.parametrize("state", list(JobState))
def test_every_field_is_there_with_its_type_at_every_moment(state):
    job = body(a_job(state), ALICE)
    for name, kind in {
        "id": str,
        "object": str,
        "created_at": int,
        "model": str,
        "status": str,
        "training_file": str,
        "hyperparameters": dict,
        "organization_id": str,
        "result_files": list,
        "seed": int,
        "integrations": list,
        "method": dict,
    }.items():
        assert type(job[name]) is kind, name
    for name in ("error", "fine_tuned_model", "finished_at", "trained_tokens"):
        assert job[name] is None
    assert job["validation_file"] is None
    assert job["estimated_finish"] is None
    assert job["metadata"] == {"a": "b"}


def test_a_job_that_succeeded_has_its_model_its_results_and_its_tokens():
    result = {"path": "/x", "tokens": 1234}
    job = body(finished(JobState.COMPLETED, result=result, save_name="my bot"), ALICE)
    assert job["status"] == "succeeded"
    assert job["fine_tuned_model"] == "ft:base:alice:my bot:7"
    assert job["trained_tokens"] == 1234
    assert job["finished_at"] == int(NOW + 60)
    assert len(job["result_files"]) == 1
    assert job["error"] is None


def test_a_job_that_failed_says_why_to_whom_it_belongs():
    error = JobError("dataset_invalid", "row 3 has no answer", "Mend it")
    job = finished(JobState.FAILED, error=error, metrics={"train/total_tokens": 99.0})
    told = body(job, ALICE)
    assert told["error"] == {
        "code": "dataset_invalid",
        "message": "row 3 has no answer. Mend it",
        "param": "training_file",
    }
    assert told["trained_tokens"] == 99
    assert told["fine_tuned_model"] is None
    others = body(job, BOB)["error"]
    assert others["code"] == "dataset_invalid"
    assert "row 3" not in others["message"]


def test_where_a_job_is_tracked_is_for_its_owner():
    place = {"project": "p", "run_name": "n"}
    job = a_job(tracking_backend="wandb", tracking=place)
    shown = {"project": "p", "name": "n", "entity": None, "tags": []}
    assert body(job, ALICE)["integrations"] == [{"type": "wandb", "wandb": shown}]
    assert body(job, BOB)["integrations"] == []


def test_a_job_of_another_api_is_a_whole_job_here():
    native = a_job(request=False, recipe="dpo", gpus=2, overrides={"seed": 5})
    job = body(native, BOB)
    assert job["training_file"] == "v1.0"
    assert job["seed"] == 5
    assert job["metadata"] is None
    assert job["method"]["dpo"]["hyperparameters"]["beta"] == "auto"
    assert job["hyperparameters"]["batch_size"] == 4


def test_names_of_models_lead_back_to_their_job():
    job = a_job(model_name="/models/a:b/tiny:1/", save_name="x:y")
    assert names.job_of_model(names.tuned_model(job)) == 7
    assert names.job_of_model(names.tuned_model(job, 120)) == 7
    for text in ("", "ft:", "owner/base", "ft:a:b:c:x", "ft:a:b:c:0", "x-7"):
        assert names.job_of_model(text) is None


def test_ids_of_files_and_of_results_are_told_apart():
    job = a_job()
    assert names.job_of_results(names.results_id(job)) == job.id
    assert names.job_of_results(names.file_id(job.id)) is None
    assert names.native_file(names.file_id(job.id)) == job.id
    assert names.native_job(names.job_id(job.id)) == job.id
