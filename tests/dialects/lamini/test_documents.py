"""Lamini's documents field by field: what they let one say is taken, what they promise is answered
with its type. The fields stand here as the documents have them."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from tests.daemon_process import eventually, running_daemon, trainer

MODEL = "meta-llama/Llama-3.2-3B-Instruct"
ROWS = [{"input": "What is for lunch?", "output": "I want boba."}] * 3

# components.schemas.TrainPayload: every property, with a value like its example
PAYLOAD = {
    "model_name": MODEL,
    "dataset_id": "{dataset}",
    "finetune_args": {"max_steps": 50, "r_value": 32, "learning_rate": 0.0003},
    "gpu_config": {"gpus": 2, "nodes": 1},
    "custom_model_name": "my-custom-model-name",
    "upload_file_path": "{place}",
    "is_public": False,
    "id": "7",
    "source": {},
}
# components.schemas.FinetuneArgs: every property, with its default
FINETUNE_ARGS = {
    "max_steps": 100,
    "learning_rate": 0.0009,
    "save_steps": 60,
    "max_finetuning_examples": 10,
    "gradient_accumulation_steps": 2,
    "max_length": 2048,
    "optim": "adafactor",
    "r_value": 64,
    "index_method": "IndexIVFPQ",
    "index_k": 2,
    "index_max_size": 65536,
    "index_pq_m": 8,
    "index_pq_nbits": 8,
    "index_ivf_nlist": 2048,
    "index_ivf_nprobe": 48,
    "index_hnsw_m": 32,
    "index_hnsw_efConstruction": 16,
    "index_hnsw_efSearch": 8,
}
OPTIMIZERS = [
    *("adamw_hf", "adamw_torch", "adamw_torch_fused", "adamw_apex_fused"),
    *("adamw_anyprecision", "adafactor"),
]
INDEXES = ["IndexIVFPQ", "IndexHNSWPQ", "IndexHNSWFlat", "IndexFlatL2", "IndexPQ"]
# the statuses of the page; those of the OpenAPI document beside them are QUEUED, for SCHEDULED,
# and TIMED OUT, for which the page and the clients have FAILED
STATUSES = {
    *("SCHEDULED", "CREATED", "LOADING DATA", "TRAINING MODEL", "EVALUATING MODEL"),
    *("SAVING MODEL", "COMPLETED", "PARTIALLY COMPLETED", "FAILED", "CANCELLED"),
}
TEXT_OR_NONE = (str, type(None))
# what a status has, in the words of the page, of the OpenAPI document and of the clients
STATUS = {
    "job_id": int,
    "status": str,
    "start_time": str,
    "model_name": TEXT_OR_NONE,
    "custom_model_name": TEXT_OR_NONE,
    "is_public": bool,
    "history": str,
    "resume_count": int,
    "dataset_id": str,
}


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return tmp_path_factory.mktemp("decided")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory, records):
    """A daemon whose trainings run until they are cancelled."""
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("released", records),
    }
    with running_daemon(tmp_path_factory.mktemp("documents") / "state", environment) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def dataset(daemon):
    place = daemon.client.get("/v1/get-upload-base-path").json()["upload_base_path"]
    body = {"upload_base_path": place, "data": ROWS, "is_public": True}
    response = daemon.client.post("/v1/local-data", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def created(response):
    """A TrainResponse: job_id an integer, status one of its list."""
    assert response.status_code == 200, response.text
    body = response.json()
    assert type(body["job_id"]) is int
    assert body["status"] in STATUSES
    return body


def train(daemon, **body):
    return created(daemon.client.post("/v1/train", json={"model_name": MODEL, **body}))


def assert_status(body):
    for name, kind in STATUS.items():
        assert isinstance(body[name], kind), name
    assert body["status"] in STATUSES
    assert datetime.fromisoformat(body["start_time"]).tzinfo is None
    assert isinstance(json.loads(body["history"]), list)


def test_the_documented_request_is_taken_as_a_whole(daemon, dataset):
    filled = {"{dataset}": dataset["dataset_id"], "{place}": dataset["dataset_location"]}
    body = {name: filled.get(value, value) if isinstance(value, str) else value
            for name, value in PAYLOAD.items()}  # fmt: skip
    job = train(daemon, **body)
    config = daemon.job(job["job_id"])["config"]
    assert config["model_name"] == MODEL
    assert config["save_name"] == "my-custom-model-name"
    assert config["overrides"]["max_steps"] == 50
    assert (config["lora_rank"], config["learning_rate"]) == (32, 0.0003)


@pytest.mark.parametrize("name", PAYLOAD)
def test_every_field_may_be_null_or_left_out_but_the_model(daemon, dataset, name):
    if name == "model_name":
        for body in ({}, {"model_name": None}):
            response = daemon.client.post("/v1/train", json={**body, "data": ROWS})
            assert response.status_code == 422
        return
    body = {"dataset_id": dataset["dataset_id"]}
    if name == "dataset_id":
        body = {"upload_file_path": dataset["dataset_location"]}
    train(daemon, **{**body, name: None})


@pytest.mark.parametrize("name", FINETUNE_ARGS)
def test_every_documented_argument_is_taken(daemon, dataset, name):
    job = train(
        daemon,
        dataset_id=dataset["dataset_id"],
        finetune_args={name: FINETUNE_ARGS[name]},
    )
    assert any(name in warning for warning in job["warnings"]) == name.startswith("index_")


def test_every_documented_optimizer_and_index_is_taken(daemon, dataset):
    for optimizer in OPTIMIZERS:
        arguments = {"optim": optimizer, "save_steps": 0.5}
        train(daemon, dataset_id=dataset["dataset_id"], finetune_args=arguments)
    for index in INDEXES:
        arguments = {"index_method": index}
        train(daemon, dataset_id=dataset["dataset_id"], finetune_args=arguments)


@pytest.mark.parametrize("config", [{"gpus": 0, "nodes": 0}, {"gpus": 2, "nodes": 1}, {}])
def test_every_documented_gpu_config_is_taken(daemon, dataset, config):
    job = train(daemon, dataset_id=dataset["dataset_id"], gpu_config=config)
    assert daemon.job(job["job_id"])["config"]["gpus"] == 1  # this machine has no more


def test_the_pages_example_is_taken_word_by_word(daemon):
    """Its upload_file_path is of another place: the data in the request is preferred."""
    body = {
        "model_name": "meta-llama/Llama-2-7b-chat-hf",
        "data": [
            {"input": "What are you wearing?", "output": "A hat, thank you for asking."},
            {"input": "What is for lunch?", "output": "I want boba."},
        ],
        "upload_file_path": "https://storage.lab.example/training-data/lorem_ipsum?abcdef",
    }
    headers = {"Authorization": "Bearer a-key-of-theirs"}
    job = created(daemon.client.post("/v1/train", json=body, headers=headers))
    found = daemon.client.get(
        f"/datasets/{job['dataset_id']}", params={"wait": 60}, timeout=120
    ).json()
    assert found["status"] == "ready", found
    assert found["rows"] == 2


def test_a_job_is_found_by_its_number_and_by_our_id(daemon, dataset):
    number = train(daemon, dataset_id=dataset["dataset_id"])["job_id"]
    native = daemon.job(number)["job_id"]
    for key in (number, str(number), native):
        response = daemon.client.get(f"/v1/train/jobs/{key}")
        assert response.status_code == 200
        assert_status(response.json())
        assert response.json()["job_id"] == number


def test_the_link_that_lamini_3_prints_leads_to_the_job(daemon, dataset):
    number = train(daemon, dataset_id=dataset["dataset_id"])["job_id"]
    found = daemon.client.get(f"/tune/{number}", follow_redirects=True)
    assert found.status_code == 200
    assert found.json()["number"] == number
    assert daemon.client.get("/tune/999999").status_code == 404


def test_cancel_and_resume_answer_with_a_status(daemon, dataset):
    number = train(daemon, dataset_id=dataset["dataset_id"])["job_id"]
    path = f"/v1/train/jobs/{number}"
    for _ in range(2):  # cancelling twice changes nothing
        cancelled = daemon.client.post(f"{path}/cancel", json={})
        assert cancelled.status_code == 200, cancelled.text
        assert cancelled.json()["status"] == "CANCELLED"
    assert daemon.client.get(path).json()["status"] == "CANCELLED"
    resumed = daemon.client.post(f"{path}/resume", json={})
    assert resumed.status_code == 200, resumed.text
    assert resumed.json()["status"] in STATUSES
    assert daemon.client.get(path).json()["status"] == "SCHEDULED"


def test_a_job_that_was_cancelled_for_good_can_be_resumed_too(daemon, dataset):
    number = train(daemon, dataset_id=dataset["dataset_id"])["job_id"]
    assert daemon.client.delete(f"/train/{number}").status_code == 200
    assert daemon.client.get(f"/v1/train/jobs/{number}").json()["status"] == "CANCELLED"
    assert daemon.client.post(f"/v1/train/jobs/{number}/cancel").json()["status"] == "CANCELLED"
    resumed = daemon.client.post(f"/v1/train/jobs/{number}/resume")
    assert resumed.json()["status"] == "SCHEDULED"


def test_jobs_are_told_at_each_moment_of_their_life(daemon, dataset, records):
    daemon.client.post("/v1/train/jobs/cancel")
    number = train(daemon, dataset_id=dataset["dataset_id"])["job_id"]
    path = f"/v1/train/jobs/{number}"

    def said():
        return daemon.client.get(path).json()["status"]

    eventually(lambda: said() == "TRAINING MODEL", 60)
    refused = daemon.client.post(f"{path}/resume")
    assert refused.status_code == 400
    assert "running" in refused.json()["detail"]
    (records / daemon.job(number)["job_id"]).write_text("1")
    eventually(lambda: said() == "FAILED", 60)
    assert "trainer_error" in daemon.client.get(path).json()["error"]
    assert daemon.client.post(f"{path}/cancel").status_code == 400  # it has failed already
    assert daemon.client.post(f"{path}/resume").status_code == 200  # as it may: from its start
    eventually(lambda: said() == "FAILED", 60)


def test_all_of_ones_jobs_are_cancelled_and_nobody_elses(daemon, dataset):
    token = daemon.client.post("/tokens", json={"user": "bob", "role": "submitter"}).json()
    bob = {"Authorization": f"Bearer {token['token']}"}
    mine = train(daemon, dataset_id=dataset["dataset_id"])["job_id"]
    body = {"model_name": MODEL, "dataset_id": dataset["dataset_id"]}
    his = created(daemon.client.post("/v1/train", json=body, headers=bob))["job_id"]
    answered = daemon.client.post("/v1/train/jobs/cancel", json={})
    assert answered.status_code == 200, answered.text
    numbers = [job["job_id"] for job in answered.json()["jobs"]]
    assert mine in numbers
    assert his not in numbers
    listed = daemon.client.get("/v1/train/jobs").json()
    assert his not in [job["job_id"] for job in listed]
    eventually(
        lambda: (
            {job["status"] for job in daemon.client.get("/v1/train/jobs").json()}
            <= {"CANCELLED", "FAILED"}
        ),
        60,
    )
    for job in listed:
        assert_status(job)
    daemon.client.post("/v1/train/jobs/cancel", headers=bob)


def test_what_is_wrong_with_a_field_is_a_validation_error(daemon):
    """HTTPValidationError: detail, a list of loc, msg and type."""
    response = daemon.client.post("/v1/train", json={"finetune_args": {"max_steps": "many"}})
    assert response.status_code == 422
    detail = response.json()["detail"]
    assert {tuple(each["loc"]) for each in detail} == {
        ("body", "model_name"),
        ("body", "finetune_args", "max_steps"),
    }
    for each in detail:
        assert set(each) == {"loc", "msg", "type"}
        assert isinstance(each["msg"], str)
        assert isinstance(each["type"], str)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"model_name": "/etc"}, 594, "/etc"),
        ({"dataset_id": "no-such-dataset"}, 400, "no-such-dataset"),
        ({"dataset_id": None}, 422, "nothing to train on"),
        ({"dataset_id": None, "upload_file_path": "/etc/passwd"}, 422, "no place of this daemon"),
        ({"dataset_id": None, "data": []}, 422, "nothing to train on"),
        ({"data": "rows"}, 200, None),  # undocumented: named, and the dataset is trained on
        ({"train_type": "memory_rag"}, 422, "memory_rag"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(daemon, dataset, body, status, words):
    asked = {"model_name": MODEL, "dataset_id": dataset["dataset_id"], **body}
    response = daemon.client.post("/v1/train", json=asked)
    assert response.status_code == status, response.text
    if words is None:
        assert "data had no effect" in response.json()["warnings"][0]
    else:
        assert words in str(response.json()["detail"])


@pytest.mark.parametrize(
    "path",
    [
        *("/v2/completions", "/v3/streaming_completions", "/v1/batch_completions"),
        *("/v1/embedding", "/alpha/memory-rag/train", "/v2/classifier/initialize"),
        *("/v1alpha/sql", "/v1/eval/run", "/v1/reservation"),
    ],
)
def test_what_of_their_api_is_not_here_says_what_is(daemon, path):
    response = daemon.client.post(path, json={})
    assert response.status_code == 404
    assert path in response.json()["detail"]
    assert "/v1/train" in response.json()["detail"]
