"""Fine-tuning jobs over HTTP, as the documents of OpenAI's API have them.

Fields and types are stated here; the documents themselves are no part of the project.
"""

from __future__ import annotations

import pytest

from tests.daemon_process import eventually, running_daemon, trainer
from training_cluster.api.dialects.openai.names import native_job

JOBS = "/v1/fine_tuning/jobs"
KEY = {"Authorization": "Bearer sk-anything"}
MODEL = "owner/base"
# every field of the document's answer, with the types it may have
NULL = type(None)
DOCUMENTED = {
    "id": (str,),
    "object": (str,),
    "created_at": (int,),
    "error": (NULL, dict),
    "fine_tuned_model": (NULL, str),
    "finished_at": (NULL, int),
    "hyperparameters": (dict,),
    "model": (str,),
    "organization_id": (str,),
    "result_files": (list,),
    "status": (str,),
    "trained_tokens": (NULL, int),
    "training_file": (str,),
    "validation_file": (NULL, str),
    "integrations": (list,),
    "seed": (int,),
    "estimated_finish": (NULL, int),
}
HYPERPARAMETERS = {"batch_size", "learning_rate_multiplier", "n_epochs"}
STATUSES = {"validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"}


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    """A daemon with one slot whose trainings do not end by themselves."""
    command = {"TRAINING_CLUSTER_TRAINER__COMMAND": trainer("saving", 10**6, 0.02, 10)}
    with running_daemon(tmp_path_factory.mktemp("slow") / "state", command) as daemon:
        yield daemon


def post(daemon, path="", **body):
    response = daemon.client.post(f"{JOBS}{path}", json=body, headers=KEY)
    assert response.status_code == 200, response.text
    return response.json()


def get(daemon, path="", **query):
    response = daemon.client.get(f"{JOBS}{path}", params=query, headers=KEY)
    assert response.status_code == 200, response.text
    return response.json()


def create(daemon, **fields):
    return post(daemon, **{"model": MODEL, "training_file": "v1.0", **fields})


def ended(daemon, job, seconds=60):
    def look():
        found = get(daemon, f"/{job['id']}")
        return found if found["status"] in ("succeeded", "failed", "cancelled") else None

    return eventually(look, seconds)


def in_status(daemon, job, *wanted):
    return eventually(lambda: get(daemon, f"/{job['id']}")["status"] in wanted, 60)


def walk(job):
    for name, kinds in DOCUMENTED.items():
        assert type(job[name]) in kinds, (name, job[name])
    assert job["object"] == "fine_tuning.job"
    assert job["status"] in STATUSES
    assert (job["error"] is not None) == (job["status"] == "failed")
    if job["error"] is not None:
        assert set(job["error"]) == {"code", "message", "param"}
        assert type(job["error"]["code"]) is type(job["error"]["message"]) is str
        assert type(job["error"]["param"]) in (NULL, str)
    for name in HYPERPARAMETERS:
        assert type(job["hyperparameters"][name]) in (int, float), name
    assert all(type(each) is str for each in job["result_files"])
    for each in job["integrations"]:
        assert each["type"] == "wandb"
        assert type(each["wandb"]["project"]) is str
        assert type(each["wandb"]["tags"]) is list


def test_the_documented_request_is_taken_and_every_documented_field_answered(quick):
    wandb = {"project": "p", "name": "n", "entity": "e", "tags": ["t"]}
    job = create(
        quick,
        seed=123,
        suffix="walked",
        hyperparameters={
            "batch_size": "auto",
            "learning_rate_multiplier": "auto",
            "n_epochs": "auto",
        },
        integrations=[{"type": "wandb", "wandb": wandb}],
    )
    walk(job)
    assert job["seed"] == 123
    assert job["integrations"][0]["wandb"] == wandb
    done = ended(quick, job)
    walk(done)
    assert done["status"] == "succeeded"
    assert done["fine_tuned_model"].startswith("ft:base:")
    assert ":walked:" in done["fine_tuned_model"]
    assert done["trained_tokens"] == 1200
    assert done["created_at"] <= done["finished_at"]
    assert done["result_files"]


def test_the_least_request_is_taken(quick):
    job = create(quick)
    walk(job)
    for each in get(quick)["data"]:
        walk(each)
    walk(ended(quick, job))


def test_every_documented_field_is_there_when_a_job_fails(quick):
    sent = {"files": {"file": ("x.jsonl", b'{"neither": "nor"}')}, "data": {"purpose": "fine-tune"}}
    file = quick.client.post("/v1/files", **sent, headers=KEY).json()
    done = ended(quick, create(quick, training_file=file["id"]))
    walk(done)
    assert done["status"] == "failed"
    assert done["error"]["param"] == "training_file"


def test_pages_go_on_behind_a_job_and_find_jobs_by_their_words(quick):
    made = [create(quick, metadata={"n": str(n), "of": "pages"})["id"] for n in range(3)]
    page = get(quick, limit=2)
    assert [job["id"] for job in page["data"]] == made[:0:-1]
    assert page["object"] == "list"
    assert page["has_more"] is True
    rest = get(quick, limit=100, after=made[1])
    assert rest["data"][0]["id"] == made[0]
    assert rest["has_more"] is False
    found = get(quick, **{"metadata[of]": "pages", "metadata[n]": "1"})
    assert [job["id"] for job in found["data"]] == [made[1]]
    assert found["data"][0]["metadata"] == {"n": "1", "of": "pages"}
    assert get(quick, **{"metadata[of]": "other"})["data"] == []
    plain, empty = create(quick), create(quick, metadata={})
    bare = get(quick, metadata="null", limit=3)["data"]
    assert [job["id"] for job in bare[:2]] == [empty["id"], plain["id"]]
    assert not any(job["metadata"] for job in bare)
    for each in made:
        ended(quick, {"id": each})


def test_a_page_begins_behind_what_there_is(quick):
    response = quick.client.get(JOBS, params={"after": "ftjob-none"}, headers=KEY)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "after"


def test_what_has_no_effect_is_told_by_an_event(quick):
    job = create(quick, nonsense=1)
    warned = [e for e in get(quick, f"/{job['id']}/events")["data"] if e["level"] == "warn"]
    assert len(warned) == 1
    assert warned[0]["object"] == "fine_tuning.job.event"
    assert "nonsense" in warned[0]["message"]
    ended(quick, job)


def test_the_past_of_a_job_is_told_to_its_end(quick):
    job = ended(quick, create(quick))
    events = get(quick, f"/{job['id']}/events", limit=100)["data"]
    assert events[0]["message"] == "The job has successfully completed"
    assert job["fine_tuned_model"] in events[1]["message"]
    assert events[-1]["message"] == f"Created fine-tuning job: {job['id']}"
    steps = [event["data"]["step"] for event in events if event["type"] == "metrics"]
    assert steps == list(range(12, 0, -1))
    for event in events:
        assert type(event["created_at"]) is int
        assert event["level"] in ("info", "warn", "error")


def test_checkpoints_have_the_metrics_of_their_step(quick):
    job = ended(quick, create(quick))
    page = get(quick, f"/{job['id']}/checkpoints", limit=2)
    assert [each["step_number"] for each in page["data"]] == [12, 8]
    assert page["has_more"] is True
    (last,) = get(quick, f"/{job['id']}/checkpoints", after=page["data"][-1]["id"])["data"]
    assert last["metrics"] == {"step": 4, "train_loss": 1.0}
    assert last["object"] == "fine_tuning.job.checkpoint"
    assert last["fine_tuning_job_id"] == job["id"]
    name = f"{job['fine_tuned_model']}:ckpt-step-4"
    assert last["fine_tuned_model_checkpoint"] == name
    assert type(last["created_at"]) is int


def test_a_job_of_the_native_api_is_one_of_these_too(quick):
    number = quick.submit(save_name="native")["number"]
    job = get(quick, f"/{number}")
    walk(job)
    assert get(quick, limit=1)["data"][0]["id"] == job["id"]
    assert quick.job(number)["status"] in ("queued", "preparing", "running", "completed")
    assert ended(quick, job)["status"] == "succeeded"
    assert quick.job(number)["status"] == "completed"


def test_a_checkpoint_of_a_job_that_is_not_over_is_not_started_from(slow):
    running = create(slow)
    in_status(slow, running, "running")
    name = f"job:{slow.job(native_job(running['id']))['number']}@step-4"
    refused = slow.client.post("/train", json={"model_name": name})
    assert refused.status_code == 422
    assert "is not over" in refused.json()["errors"][0]["message"]
    post(slow, f"/{running['id']}/cancel")


def test_cancelling_answers_with_a_cancelled_job_and_once_only(slow):
    running, waiting = create(slow), create(slow)
    in_status(slow, running, "running")
    assert get(slow, f"/{waiting['id']}")["status"] == "queued"
    assert post(slow, f"/{waiting['id']}/cancel")["status"] == "cancelled"
    done = post(slow, f"/{running['id']}/cancel")
    assert done["status"] == "cancelled"
    assert done["finished_at"] is not None
    again = slow.client.post(f"{JOBS}/{running['id']}/cancel", headers=KEY)
    assert again.status_code == 400
    assert again.json()["error"]["code"] == "job_already_finished"


def test_a_job_that_runs_says_when_it_is_likely_to_end(slow):
    job = create(slow)

    def estimate():
        finish = get(slow, f"/{job['id']}")["estimated_finish"]
        assert type(finish) in (int, NULL)
        return finish is not None and finish > job["created_at"] + 1000  # of a million steps

    eventually(estimate, 60)
    assert get(slow, limit=1)["data"][0]["estimated_finish"] is not None
    assert post(slow, f"/{job['id']}/cancel")["estimated_finish"] is None


def test_a_paused_job_is_paused_and_goes_on(slow):
    job = create(slow)
    in_status(slow, job, "running")
    eventually(lambda: get(slow, f"/{job['id']}/checkpoints")["data"], 60)
    assert post(slow, f"/{job['id']}/pause")["status"] == "paused"
    assert post(slow, f"/{job['id']}/resume")["status"] in ("queued", "running")
    in_status(slow, job, "running")
    post(slow, f"/{job['id']}/cancel")
    messages = [e["message"] for e in get(slow, f"/{job['id']}/events", limit=10_000)["data"]]
    assert any(text.startswith("The job was paused at step") for text in messages)
    refused = slow.client.post(f"{JOBS}/{job['id']}/resume", headers=KEY)
    assert refused.json()["error"]["code"] == "wrong_state"


REFUSED = [
    ({}, "model"),
    ({"model": MODEL}, "training_file"),
    ({"model": "../x", "training_file": "v1.0"}, "model"),
    ({"model": MODEL, "training_file": "file-unknown"}, "training_file"),
    ({"model": MODEL, "training_file": "v1.0", "suffix": "x" * 65}, "suffix"),
    ({"model": MODEL, "training_file": "v1.0", "seed": "x"}, "seed"),
    (
        {"model": MODEL, "training_file": "v1.0", "hyperparameters": {"n_epochs": "x"}},
        "hyperparameters.n_epochs",
    ),
    (
        {"model": MODEL, "training_file": "v1.0", "method": {"type": "reinforcement"}},
        "method.type",
    ),
    (
        {"model": MODEL, "training_file": "v1.0", "training_cluster": {"gpus": 0}},
        "training_cluster.gpus",
    ),
    ({"model": MODEL, "training_file": "v1.0", "method": {"type": "dpo"}}, "training_file"),
]


@pytest.mark.parametrize(("body", "param"), REFUSED, ids=lambda value: str(value)[:50])
def test_a_bad_field_is_refused_by_its_name(quick, body, param):
    before = get(quick, limit=1)["data"]
    response = quick.client.post(JOBS, json=body, headers=KEY)
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert error["message"]
    assert get(quick, limit=1)["data"] == before


@pytest.mark.parametrize("path", ["", "/events", "/checkpoints"])
def test_an_unknown_job_is_not_found(quick, path):
    response = quick.client.get(f"{JOBS}/ftjob-unknown{path}", headers=KEY)
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "fine_tune_not_found"


def test_the_same_key_and_request_again_is_the_same_job(quick):
    body = {"model": MODEL, "training_file": "v1.0", "metadata": {"x": "y"}}
    headers = {**KEY, "Idempotency-Key": "once"}
    first, second = (quick.client.post(JOBS, json=body, headers=headers) for _ in range(2))
    assert first.json()["id"] == second.json()["id"]
    other = quick.client.post(JOBS, json={**body, "metadata": {}}, headers=headers)
    assert other.status_code == 400
    assert other.json()["error"]["code"] == "idempotency_mismatch"
    ended(quick, first.json())
