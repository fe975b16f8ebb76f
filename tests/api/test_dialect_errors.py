"""Under the path of a dialect every error is said as its clients read it, also what no route of it
says: wrong paths and methods, the gate, bodies too large."""

from __future__ import annotations

import pytest

from tests.daemon_process import running_daemon
from training_cluster.api.dialects.errors import told_at

FAR = {"X-Forwarded-For": "203.0.113.9"}
OPENAI, LAMINI, VERTESIA = "/v1/nothing", "/v1/train/nothing", "/api/v1/training/a/nothing"
PROBLEM = {
    "status": 422,
    "title": "The request is not valid",
    "detail": "batch_size: at least 1",
    "code": "invalid_request",
    "errors": [{"field": "hyperparameters.batch_size", "message": "at least 1", "expected": None}],
}


def openai(response):
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


def lamini(response):
    assert set(response.json()) == {"detail"}
    return response.json()["detail"]


def vertesia(response):
    body = response.json()
    assert set(body) == {"error", "status", "message"}
    assert body["status"] == response.status_code
    return body["message"]


SPOKEN = [(OPENAI, openai), (LAMINI, lamini), (VERTESIA, vertesia)]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": "/bin/true",
        "TRAINING_CLUSTER_TUNNEL": "127.0.0.1:0",
    }
    with running_daemon(tmp_path_factory.mktemp("errors") / "state", environment) as daemon:
        yield daemon


@pytest.mark.parametrize(("path", "read"), SPOKEN)
def test_a_wrong_path_is_said_in_the_words_of_the_dialect(daemon, path, read):
    response = daemon.client.get(path)
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/json"
    assert path in str(read(response))


@pytest.mark.parametrize(("path", "read"), SPOKEN)
def test_who_is_not_known_is_told_so_in_the_words_of_the_dialect(daemon, path, read):
    for headers in (FAR, {**FAR, "Authorization": "Bearer tq_no_token"}):
        response = daemon.client.get(path, headers=headers)
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
        assert "token" in str(read(response))


@pytest.mark.parametrize(("path", "read"), SPOKEN)
def test_a_body_too_large_is_refused_in_the_words_of_the_dialect(daemon, path, read):
    response = daemon.client.post(path, content=b"x" * (1 << 20 | 1))
    assert response.status_code == 413
    assert str(1 << 20) in str(read(response))


def test_the_native_api_answers_with_problems_as_before(daemon):
    for path in ("/nothing", "/v10/files", "/api/v2", "/v"):
        response = daemon.client.get(path)
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["code"] == "not_found"


def test_a_key_of_the_sdk_counts_as_nothing_on_the_machine_and_opens_nothing_elsewhere(daemon):
    """A local user's script has to send some key; where a token is needed it is none."""
    key = {"Authorization": "Bearer sk-proj-whatever"}
    assert daemon.client.get("/train", headers=key).status_code == 200
    assert daemon.client.get("/train", headers=key | FAR).status_code == 401
    refused = daemon.client.get(daemon.tunnel.rstrip("/") + OPENAI, headers=key)
    assert refused.status_code == 401
    assert openai(refused)["code"] == "invalid_api_key"


def test_what_openai_clients_would_send_again_says_that_they_shall_not():
    """Their SDKs repeat 408, 409, 429 and 5xx, a request that changed something included."""
    for status in (429, 500, 503, 507):
        told = told_at("/v1/fine_tuning/jobs", "POST", {**PROBLEM, "status": status})
        assert told.status == status
        assert told.headers["x-should-retry"] == "false"
    assert not told_at("/v1/files", "GET", {**PROBLEM, "status": 503}).headers
    for status in (409, 422):
        assert told_at("/v1/files", "POST", {**PROBLEM, "status": status}).status == 400


def test_openai_names_the_field_that_is_wrong():
    told = told_at("/v1/fine_tuning/jobs", "POST", PROBLEM).content["error"]
    assert told["param"] == "hyperparameters.batch_size"
    assert told["type"] == "invalid_request_error"
    assert told["code"] == "invalid_request"
    assert "at least 1" in told["message"]


def test_lamini_has_the_statuses_its_sdk_raises_by_name():
    """A word of ours is nothing to it, but the status decides what is raised."""
    said = {
        ("invalid_request", 422): 422,
        ("invalid_dataset", 422): 400,
        ("model_not_allowed", 422): 594,
        ("model_not_found", 404): 594,
        ("name_taken", 409): 497,
        ("wrong_state", 409): 400,
        ("access_denied", 401): 401,
        ("too_many_jobs", 429): 429,
        ("store_unavailable", 503): 503,
        ("job_not_found", 404): 404,
        ("storage_full", 507): 507,
    }
    for (code, status), theirs in said.items():
        problem = {**PROBLEM, "code": code, "status": status}
        if code != "invalid_request":
            problem["errors"] = []
        told = told_at("/v1/train", "POST", problem)
        assert told.status == theirs, code
        assert list(told.content) == ["detail"]
