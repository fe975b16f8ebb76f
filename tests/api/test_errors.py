"""Bad input gets a clear answer: never a 500, always the field and what would be right."""

from __future__ import annotations

import http.client

import pytest

REFUSED = [
    ({"batch_size": 0}, "batch_size"),
    ({"batch_size": "many"}, "batch_size"),
    ({"learning_rate": "fast"}, "learning_rate"),
    ({"learning_rate": -1}, "learning_rate"),
    ({"num_epochs": 0}, "num_epochs"),
    ({"gpus": 65}, "gpus"),
    ({"unknown": 1}, "unknown"),
    ({"output_dir": "/tmp/x"}, "output_dir"),
    ({"overrides": {"trust_remote_code": True}}, "overrides.trust_remote_code"),
    ({"overrides": {"deepspeed": "/etc/passwd"}}, "overrides.deepspeed"),
    ({"overrides": {"report_to": "wandb"}}, "overrides.report_to"),
    ({"overrides": {"warmup_ratio": 2}}, "overrides.warmup_ratio"),
    ({"template": "qwen;rm"}, "template"),
    ({"template": "${oc.env:HOME}"}, "template"),
    ({"dataset_version": "../../etc"}, "dataset_version"),
    ({"recipe": "../x"}, "recipe"),
    ({"lora_name": ""}, "lora_name"),
    ({"lora_name": "a\nb"}, "lora_name"),
    ({"webhook_url": "file:///etc/passwd"}, "webhook_url"),
    ({"webhook_url": "https://127.0.0.1/"}, "webhook_url"),
    ({"tracking_backend": "tensorboard"}, "tracking_backend"),
    ({"tracking_backend": ["wandb", "none"]}, "tracking_backend"),
    ({"tracking_backend": []}, "tracking_backend"),
    ({"tracking_backend": {"a": []}}, "tracking_backend"),
    ({"tracking": {"token": "x"}}, "tracking.token"),
    ({"tracking": {"tags": ["x" * 129]}}, "tracking.tags.0"),
    ({"model_name": "../../etc"}, "model_name"),
    ({"model_name": "/etc"}, "model_name"),
    ({"model_name": "a/../../etc"}, "model_name"),
    ({"depends_on": ["999"]}, "depends_on.0"),
    ({"lora_target": "a b"}, "lora_target"),
]


@pytest.mark.parametrize(("fields", "named"), REFUSED, ids=lambda value: str(value)[:40])
def test_a_bad_field_is_refused_by_name(shared_daemon, fields, named):
    response = shared_daemon.client.post("/train", json=fields)
    assert response.status_code == 422, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == 422
    assert named in [error["field"] for error in body["errors"]]
    assert shared_daemon.client.get("/train").json()["jobs"] == []


def test_an_unknown_dataset_lists_what_exists(shared_daemon):
    body = shared_daemon.client.post("/train", json={"dataset_version": "v9"}).json()
    assert body["code"] == "unknown_dataset"
    assert "v1.0" in body["detail"]


def test_an_unknown_recipe_lists_what_exists(shared_daemon):
    body = shared_daemon.client.post("/train", json={"recipe": "magic"}).json()
    assert body["status"] == 422
    assert "lora_sft" in body["detail"]


def test_a_dataset_that_does_not_fit_the_stage_is_refused(shared_daemon):
    response = shared_daemon.client.post("/train", json={"recipe": "dpo"})
    assert response.status_code == 422
    assert "preference" in response.text


RAW = [
    b"",
    b"{",
    b"null",
    b"[]",
    b'"text"',
    b"NaN",
    b'{"num_epochs": NaN}',
    b'{"num_epochs": Infinity}',
    b'{"num_epochs": 1e999}',
    b'{"lora_name": "\\ud800"}',
    b'{"lora_name": "a\\u0000b"}',
    b'{"lora_name": "\xff\xfe"}',
    b'{"a":' * 5000 + b"1" + b"}" * 5000,
    b"[" * 100_000 + b"]" * 100_000,
    b'{"cutoff_len": 99999999999999999999999999999999}',
    b'{"batch_size": 1.5}',
    b'{"overrides": []}',
    b'{"overrides": null}',
    b'{"depends_on": {"a": 1}}',
    b'{"kind": "delete"}',
]


@pytest.mark.parametrize("body", RAW, ids=lambda body: repr(body[:30]))
def test_raw_bytes_never_end_in_a_500(shared_daemon, body):
    connection = http.client.HTTPConnection("127.0.0.1", shared_daemon.port, timeout=10)
    connection.request("POST", "/train", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    assert 400 <= response.status < 500, response.read()
    assert b'"code"' in response.read()
    connection.close()


def test_a_body_of_100_megabytes_is_refused_without_being_read(shared_daemon):
    connection = http.client.HTTPConnection("127.0.0.1", shared_daemon.port, timeout=10)
    connection.putrequest("POST", "/train")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(100 << 20))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nothing", 404),
        ("/train?limit=0", 422),
        ("/train?status=sleeping", 422),
        ("/train?cursor=%00", 422),
        ("/train?cursor=bm9wZQ", 422),
        ("/train/1/logs?tail=-1", 422),
        ("/train/77/logs", 404),
    ],
)
def test_bad_paths_and_queries_are_problems(shared_daemon, path, status):
    response = shared_daemon.client.get(path)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == status


def test_a_wrong_method_says_so(shared_daemon):
    response = shared_daemon.client.put("/train", json={})
    assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")
