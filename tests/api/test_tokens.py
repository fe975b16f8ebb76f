"""Tokens over a real daemon: made, used, revoked, and never told twice."""

from __future__ import annotations

import json
import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.daemon_process import DaemonProcess, eventually, running_daemon
from training_cluster.domain.token import PREFIX

FAR = {"X-Forwarded-For": "203.0.113.9"}  # whoever comes through a proxy is not local
TEXT = re.compile(r"tq_[0-9a-f]{12}_[0-9a-f]{48}")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": "/bin/true",
        "TRAINING_CLUSTER_TUNNEL": "127.0.0.1:0",
    }
    with running_daemon(tmp_path_factory.mktemp("tokens") / "state", environment) as started:
        yield started


def make(daemon: DaemonProcess, **fields: Any) -> dict[str, Any]:
    response = daemon.client.post("/tokens", json=fields)
    assert response.status_code == 201, response.text
    return dict(response.json())


def ask(daemon: DaemonProcess, method: str, path: str, token: str | None, **options: Any) -> Any:
    """A request as it would come from elsewhere."""
    shown = {} if token is None else {"Authorization": f"Bearer {token}"}
    headers = {**FAR, **shown, **options.pop("headers", {})}
    return daemon.client.request(method, path, headers=headers, **options)


def test_the_first_start_tells_one_admin_token_and_no_later_one_does(tmp_path):
    environment = {"TRAINING_CLUSTER_TRAINER__COMMAND": "/bin/true"}
    with running_daemon(tmp_path / "state", environment) as daemon:
        (token,) = TEXT.findall(daemon.log)
        assert ask(daemon, "GET", "/tokens", token).json()["tokens"][0]["role"] == "admin"
        ask(daemon, "DELETE", f"/tokens/{token[3:15]}", token)
        daemon.stop()
        daemon.start()
        assert len(TEXT.findall(daemon.log)) == 1
        assert ask(daemon, "GET", "/train", token).status_code == 401


def test_a_token_gets_in_from_elsewhere_as_its_user_with_its_role(daemon):
    made = make(daemon, user="carol", label="laptop")
    assert (made["user"], made["role"], made["made_by"]) == ("carol", "submitter", "root")
    job = ask(daemon, "POST", "/train", made["token"], json={}).json()
    assert daemon.job(job["job_id"])["user"] == "carol"
    assert ask(daemon, "GET", "/login", made["token"]).json()["user"] == "carol"


def test_a_token_wins_over_the_unix_user_on_the_machine_itself(daemon):
    made = make(daemon, user="carol", role="viewer")
    shown = {"Authorization": f"Bearer {made['token']}"}
    assert daemon.client.post("/train", json={}, headers=shown).status_code == 403


def test_a_key_that_is_not_of_our_form_counts_as_none(daemon):
    for key in ("sk-unused", "x", PREFIX[:-1]):
        headers = {"Authorization": f"Bearer {key}"}
        assert daemon.client.get("/train", headers=headers).status_code == 200
        assert ask(daemon, "GET", "/train", key).status_code == 401


@pytest.mark.parametrize("change", [lambda t: t[:-1], lambda t: t + "0", lambda t: t[:15] + "_x"])
def test_a_token_of_our_form_must_be_valid_also_on_the_machine_itself(daemon, change):
    made = make(daemon, user="carol")
    wrong = {"Authorization": f"Bearer {change(made['token'])}"}
    response = daemon.client.get("/train", headers=wrong)
    assert (response.status_code, response.json()["code"]) == (401, "invalid_token")
    assert response.headers["www-authenticate"] == "Bearer"


def test_an_unknown_id_and_a_wrong_secret_look_the_same(daemon):
    made = make(daemon, user="carol")
    unknown = ask(daemon, "GET", "/train", f"tq_{'0' * 12}_{'1' * 48}")
    wrong = ask(daemon, "GET", "/train", f"{made['token'][:16]}{'1' * 48}")
    assert (unknown.status_code, unknown.json()) == (wrong.status_code, wrong.json())


def test_a_revoked_token_opens_nothing_and_its_open_stream_ends_within_a_second(daemon):
    made = make(daemon, user="carol")
    shown = {**FAR, "Authorization": f"Bearer {made['token']}"}
    opened, ended = threading.Event(), threading.Event()

    def follow() -> None:
        url = f"{daemon.client.base_url}/events/stream"
        with httpx2.Client(timeout=30) as client, client.stream("GET", url, headers=shown) as got:
            assert got.status_code == 200
            for _ in got.iter_bytes():
                opened.set()
        ended.set()

    reader = threading.Thread(target=follow)
    reader.start()
    assert opened.wait(10)
    began = time.monotonic()
    assert daemon.client.delete(f"/tokens/{made['token_id']}").status_code == 200
    assert ask(daemon, "GET", "/train", made["token"]).status_code == 401
    assert ended.wait(1.0), "the stream outlives its token"
    assert time.monotonic() - began < 1.0
    reader.join()
    assert "Traceback" not in daemon.log


def test_a_token_ends_when_it_says(daemon):
    made = make(daemon, user="carol", expires_in_seconds=0.4)
    assert ask(daemon, "GET", "/train", made["token"]).status_code == 200
    eventually(lambda: ask(daemon, "GET", "/train", made["token"]).status_code == 401, 5)


def test_a_submitter_makes_tokens_of_its_own_and_no_stronger_ones(daemon):
    short = make(daemon, user="carol", expires_in_seconds=3600)
    own = ask(daemon, "POST", "/tokens", short["token"], json={"role": "viewer"})
    assert own.status_code == 201
    assert own.json()["user"] == "carol"
    assert own.json()["expires_at"] <= short["expires_at"], "it outlives the one it was made with"
    for asked in ({"role": "admin"}, {"user": "dave"}):
        assert ask(daemon, "POST", "/tokens", short["token"], json=asked).status_code == 403
    assert ask(daemon, "POST", "/tokens", own.json()["token"], json={}).status_code == 403


def test_tokens_of_others_do_not_exist_for_who_is_no_admin(daemon):
    carols, daves = make(daemon, user="carol"), make(daemon, user="dave")
    listed = ask(daemon, "GET", "/tokens", carols["token"]).json()["tokens"]
    assert {token["user"] for token in listed} == {"carol"}
    path = f"/tokens/{daves['token_id']}"
    assert ask(daemon, "DELETE", path, carols["token"]).status_code == 404
    assert ask(daemon, "GET", "/train", daves["token"]).status_code == 200
    assert ask(daemon, "DELETE", f"/tokens/{carols['token_id']}", carols["token"]).is_success


def test_the_secret_is_told_once_and_kept_nowhere(daemon):
    made = make(daemon, user="carol", label="canary")
    secret = made["token"].rpartition("_")[2]
    ask(daemon, "GET", "/train", made["token"])
    texts = [daemon.log, daemon.client.get("/tokens").text, daemon.client.get("/events").text]
    assert not any(secret in text for text in texts)
    for file in daemon.state.rglob("*"):
        if file.is_file():
            assert secret.encode() not in file.read_bytes(), file


def test_who_fails_too_often_waits_and_a_valid_token_from_there_gets_in(tmp_path):
    environment = {"TRAINING_CLUSTER_TRAINER__COMMAND": "/bin/true"}
    with running_daemon(tmp_path / "state", environment) as daemon:
        made = make(daemon, user="carol")
        wrong = f"tq_{'0' * 12}_{'1' * 48}"
        answers = [ask(daemon, "GET", "/train", wrong) for _ in range(30)]
        assert [one.status_code for one in answers] == [401] * 20 + [429] * 10
        assert 0 < int(answers[-1].headers["retry-after"]) <= 60
        assert ask(daemon, "GET", "/train", made["token"]).status_code == 200
        assert ask(daemon, "GET", "/train", None).status_code == 401, "asking without is no failure"
        eventually(lambda: denials(daemon), 5)
        assert len(denials(daemon)) == 1, "one event a minute, however often somebody knocks"
        daemon.stop()
        with closing(sqlite3.connect(daemon.state / "queue.db")) as database:
            query = "SELECT data FROM events WHERE type = 'access.denied' ORDER BY sequence"
            told = [json.loads(row[0]) for row in database.execute(query)]
        assert sum(one["count"] for one in told) == 31
        assert {one["address"] for one in told} == {"127.0.0.1"}


def denials(daemon: DaemonProcess) -> list[Any]:
    asked = {"type": "access.denied"}
    return list(daemon.client.get("/events", params=asked).json()["events"])


def test_use_is_shown_and_survives_a_restart(tmp_path: Path):
    environment = {"TRAINING_CLUSTER_TRAINER__COMMAND": "/bin/true"}
    with running_daemon(tmp_path / "state", environment) as daemon:
        made = make(daemon, user="carol")
        ask(daemon, "GET", "/train", made["token"])
        daemon.stop()
        daemon.start()
        token = next(
            each
            for each in daemon.client.get("/tokens").json()["tokens"]
            if each["token_id"] == made["token_id"]
        )
        assert token["last_used_at"] >= token["created_at"]
        assert ask(daemon, "GET", "/train", made["token"]).status_code == 200
