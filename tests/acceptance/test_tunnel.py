"""Through a tunnel nobody gets in without a token, however much the request looks like a local one.

Two hops stand in for zrok's (tests/forwarding.py): the frontend with its public Host and X-Proxy,
the same with both stripped on the way, and a TCP tunnel that adds nothing."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.daemon_process import DaemonProcess, eventually, running_daemon
from tests.forwarding import CHAINS, PUBLIC_HOST, hops

TRAINER = "/bin/sh -c 'echo said by the trainer'"
OPERATOR_SAYS = "https://box.lab.example"
LOCAL = {"Host": "localhost"}  # what a client may say through a TCP tunnel
# the same door by other names: none of them may lead around the gate
OTHER_PATHS = (
    *("/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect", "/no/such/thing", "//train"),
    *(
        "/healthz/",
        "/healthz/../train",
        "//healthz/../train",
        "//healthz/",
        "/healthz//",
        "/./train",
        "/train/",
        "/healthz%2f..%2ftrain",
        "/healthz;x",
    ),
)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": TRAINER,
        "TRAINING_CLUSTER_TUNNEL": "127.0.0.1:0",
        "TRAINING_CLUSTER_WEBHOOKS__PUBLIC_URL": OPERATOR_SAYS,
    }
    with running_daemon(tmp_path_factory.mktemp("tunnel") / "state", environment) as started:
        yield started


@pytest.fixture(scope="module")
def token(daemon) -> str:
    return str(daemon.client.post("/tokens", json={"user": "alice"}).json()["token"])


@contextlib.contextmanager
def through(port: int, chain: str) -> Iterator[httpx2.Client]:
    """A client at the far end of a chain of hops."""
    with (
        hops(port, *CHAINS[chain]) as entry,
        httpx2.Client(base_url=f"http://127.0.0.1:{entry}", headers=LOCAL, timeout=20) as client,
    ):
        yield client


def tunnel_port(daemon: DaemonProcess) -> int:
    return int(daemon.tunnel.rpartition(":")[2])


def operations(daemon: DaemonProcess) -> list[tuple[str, str]]:
    document = daemon.client.get("/openapi.json").json()
    return [
        (method.upper(), path.replace("{number}", "1").replace("{", "").replace("}", ""))
        for path, found in document["paths"].items()
        for method in found
    ]


@pytest.mark.parametrize("chain", CHAINS)
def test_no_route_but_liveness_answers_without_a_token(daemon, chain):
    with through(tunnel_port(daemon), chain) as far:
        for method, path in operations(daemon):
            status = far.request(method, path, json={}).status_code
            assert status == (200 if path == "/healthz" else 401), (method, path, status)
        for method in ("HEAD", "OPTIONS", "PATCH", "TRACE"):
            assert far.request(method, "/train").status_code == 401, method
    assert daemon.client.get("/train").json()["jobs"] == []


def raw(port: int, request: str) -> int:
    """The status of a request sent as it stands."""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(request.encode())
        return int(connection.makefile("rb").readline().split()[1])


@pytest.mark.parametrize("path", OTHER_PATHS)
def test_no_other_path_leads_around_the_gate(daemon, path):
    head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert raw(tunnel_port(daemon), head) == 401


def test_liveness_with_a_slash_too_many_is_liveness_and_leads_no_further(daemon):
    for path, status in (("//healthz", 200), ("///healthz", 200), ("//healthz//train", 401)):
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        assert raw(tunnel_port(daemon), head) == status, path


def test_a_local_looking_request_without_http_1_1_is_refused_too(daemon):
    assert raw(tunnel_port(daemon), "GET /train HTTP/1.0\r\n\r\n") == 401
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    head = f"GET /train HTTP/1.1\r\nHost: localhost\r\n{upgrade}\r\n"
    assert raw(tunnel_port(daemon), head) == 401


@pytest.mark.parametrize("chain", CHAINS)
def test_with_a_token_all_of_it_works_streams_too(daemon, token, chain):
    shown = {"Authorization": f"Bearer {token}"}
    with through(tunnel_port(daemon), chain) as far:
        last = daemon.client.get("/events", params={"latest": True, "limit": 1}).json()["next"]
        job = far.post("/train", json={}, headers=shown).json()["job_id"]
        assert far.get(f"/train/{job}", headers=shown).json()["user"] == "alice"
        asked = {"after": last, "job": job}
        with far.stream("GET", "/events/stream", params=asked, headers=shown) as stream:
            told = [json.loads(line[6:]) for line in stream.iter_lines() if line[:6] == "data: "]
        assert told[0]["type"] == "job.queued"
        assert told[-1] == {"status": "completed"}
        with far.stream("GET", f"/train/{job}/logs/stream", headers=shown) as stream:
            assert any("said by the trainer" in line for line in stream.iter_lines())
    eventually(lambda: daemon.job(job)["status"] == "completed")


@pytest.mark.parametrize("chain", CHAINS)
def test_data_is_sent_and_fetched_by_addresses_of_the_far_end_without_a_token(daemon, token, chain):
    begins = f"https://{PUBLIC_HOST}/" if chain == "zrok" else f"{OPERATOR_SAYS}/"
    shown = {"Authorization": f"Bearer {token}"}
    line = b'{"prompt": "a", "completion": "b"}\n'
    with through(tunnel_port(daemon), chain) as far:
        asked = {"name": "far", "env": "local", "model": "Qwen/Qwen2.5-1.5B-Instruct"}
        session = far.post("/api/v1/training", json=asked, headers=shown).json()["id"]

        def address(what: str) -> str:
            found = far.get(f"/api/v1/training/{session}/{what}", headers=shown).json()["url"]
            assert found.startswith(begins)
            return found.removeprefix(begins.rstrip("/"))

        assert far.put(address("upload-url"), content=line).status_code == 201
        assert far.get(address("url")).content == line


def test_plain_curl_works_on_the_machine_itself_meanwhile(daemon):
    port = daemon.client.base_url.port
    line = ["curl", "-sS", f"http://localhost:{port}/train"]
    ran = subprocess.run(line, capture_output=True, text=True, timeout=20, check=True)
    assert "jobs" in json.loads(ran.stdout)


def test_a_tunnel_that_leads_to_the_other_listener_is_known_by_its_headers(daemon):
    with through(daemon.client.base_url.port, "zrok") as far:
        for method, path in operations(daemon):
            status = far.request(method, path, json={}).status_code
            assert status == (200 if path == "/healthz" else 401), (method, path, status)


@pytest.mark.parametrize("chain", ["stripped", "tcp"])
def test_whom_never_local_names_is_not_local_even_with_nothing_to_be_known_by(tmp_path, chain):
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": TRAINER,
        "TRAINING_CLUSTER_NEVER_LOCAL": _me(),
    }
    with running_daemon(tmp_path / "state", environment) as daemon:
        port = int(daemon.client.base_url.port)
        (token,) = [word for word in daemon.log.split() if word.startswith("tq_")]
        with through(port, chain) as far:
            refused = far.get("/train")
            assert (refused.status_code, "needs a token" in refused.text) == (401, True)
            shown = {"Authorization": f"Bearer {token}"}
            assert far.get("/train", headers=shown).status_code == 200


def _me() -> str:
    return subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()


def test_listeners_are_told_apart_on_one_port_of_two_addresses(tmp_path):
    with socket.create_server(("127.0.0.2", 0)) as probe:
        port = probe.getsockname()[1]
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": TRAINER,
        "TRAINING_CLUSTER_TUNNEL": f"127.0.0.2:{port}",
    }
    daemon: Any = DaemonProcess(tmp_path / "state", environment)
    try:
        daemon.start(port)
        assert daemon.client.get("/train").status_code == 200
        assert daemon.client.get(f"http://127.0.0.2:{port}/train", headers=LOCAL).status_code == 401
    finally:
        daemon.kill()
        daemon.client.close()
