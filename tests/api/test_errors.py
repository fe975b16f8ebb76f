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
    ({"lora_name": "a\u0007"}, "lora_name"),
    ({"lora_name": "\u202etxt.exe"}, "lora_name"),
    ({"batch_size": True}, "batch_size"),
    ({"overrides": {"seed": False}}, "overrides.seed"),
    ({"overrides": {"bf16": 1.5}}, "overrides.bf16"),
    ({"batchsize": 1}, "batchsize"),
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


# by eye: what is wrong, and what would be right
SAID = [
    (b'{"batchsize": 1}', "batchsize: there is no such field", "perhaps batch_size"),
    (b'{"max_steps": 3}', "max_steps: there is no such field", "overrides.max_steps"),
    (b'{"overrides": {"deepspeed": "x"}}', "overrides.deepspeed", "a key of docs/overrides.md"),
    (b'{"batch_size": "many"}', "batch_size: Input should be a valid integer", "a whole number"),
    (b'{"batch_size": 0}', "batch_size: ", "at least 1"),
    (b'{"batch_size": 5000}', "batch_size: ", "at most 4096"),
    (b'{"stage": "rl"}', "stage: Input should be", "'sft', 'dpo', 'kto' or 'pt'"),
    (b'{"num_epochs": NaN}', "body: not valid JSON", "a JSON object in UTF-8"),
    (b'{"num_epochs": 1e999}', "num_epochs: ", "a finite number"),
    (b'{"a":' * 300, "body: not valid JSON: it is nested too deeply", "a JSON object in UTF-8"),
    (b'{"lora_name": "\\u0000"}', "'lora_name' contains the character NUL", "a JSON object"),
    (b'{"lora_name": "\\ud800"}', "half of a surrogate pair stands alone", "a JSON object"),
    (b'{"priority": 1, "priority": 2}', "'priority' is said twice", "a JSON object in UTF-8"),
    (b'{"cutoff_len": ' + b"9" * 5000 + b"}", "a number has too many digits", "a JSON object"),
    (b'{"lora_name": ""}', "lora_name: it is empty", "at least 1 long"),
    (b'{"lora_name": "a\\u0007"}', "lora_name: it has characters", "without control characters"),
    (b"[]", "body: ", "a JSON object"),
    (b"", "body: it is missing", "a JSON object"),
    (b'{"lora_name": "\xff"}', "body: not valid JSON: invalid unicode", "a JSON object in UTF-8"),
    (b"\xef\xbb\xbf{}", "the text begins with a byte order mark", "a JSON object in UTF-8"),
    (b'{"template": "a b"}', "template: ", "letters, digits"),
    (
        b'{"recipe": "nope"}',
        "there is no recipe 'nope'",
        "one of dpo, full_sft, kto, lora_sft, pretrain",
    ),
    (b'{"batch_size": true}', "batch_size: a number or text, not true or false", "a number"),
]


@pytest.mark.parametrize(("body", "wrong", "right"), SAID, ids=lambda value: repr(value)[:40])
def test_a_refusal_says_what_is_wrong_and_what_would_be_right(shared_daemon, body, wrong, right):
    headers = {"Content-Type": "application/json"}
    response = shared_daemon.client.post("/train", content=body, headers=headers)
    assert response.status_code == 422
    assert wrong in response.json()["detail"]
    assert right in response.json()["errors"][0]["expected"]


@pytest.mark.parametrize(
    ("headers", "wrong"),
    [
        ({"Content-Type": "text/plain"}, "Content-Type 'text/plain' is not taken here"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, "send JSON and say so"),
        ({}, "a body without Content-Type is not taken here"),
        ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, "Content-Encoding"),
    ],
)
def test_a_body_that_is_no_plain_json_is_refused_with_415(shared_daemon, headers, wrong):
    response = shared_daemon.client.post("/train", content=b'{"gpus": 1}', headers=headers)
    assert (response.status_code, response.json()["code"]) == (415, "unsupported_body")
    assert wrong in response.json()["detail"]


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
    assert response.headers["allow"] == "GET, POST"
    assert response.json()["detail"] == "PUT is not taken at /train, only GET, POST"
