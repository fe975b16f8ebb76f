"""Two people with accounts on one machine: both see the queue, neither gets at what is the other's.

The kernel tells them apart: their requests are made by processes of two real Unix users."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.cli.scripted_server import Reply, ScriptedServer, scripted
from tests.daemon_process import DaemonProcess, eventually, running_daemon

USERS = ("nobody", "daemon")
CANARY = "canary-5f1c"
TALKATIVE = f"/bin/sh -c 'echo {CANARY} in the log; sleep 600'"
FAILING = (
    '/bin/sh -c \'echo "Traceback (most recent call last):"; '
    f'echo "ValueError: {CANARY} in a traceback"; exit 1\''
)


def _have_users() -> bool:
    with suppress(KeyError):
        return all(pwd.getpwnam(name).pw_uid for name in USERS)
    return False


pytestmark = [
    pytest.mark.skipif(os.getuid() != 0, reason="only root can ask as two other users"),
    pytest.mark.skipif(not _have_users(), reason=f"this machine lacks the users {USERS}"),
    pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl"),
]


def run_as(user: str, *words: str) -> str:
    """What a program says that another user runs."""
    who = pwd.getpwnam(user)
    ran = subprocess.run(
        words, user=who.pw_uid, group=who.pw_gid, extra_groups=(), cwd="/",
        env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    return ran.stdout


class Person:
    """A user of the machine with curl."""

    def __init__(self, name: str, daemon: DaemonProcess) -> None:
        self.name = name
        self._daemon = daemon

    def curl(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        """Status and text of an answer; a stream is read for two seconds."""
        url = f"http://localhost:{self._daemon.client.base_url.port}{path}"
        words = ["curl", "-sS", "-m", "2" if "stream" in path else "20", "-X", method, url]
        if body is not None:
            words += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
        text, _, status = run_as(self.name, *words, "-w", "\n%{http_code}").rpartition("\n")
        return int(status), text

    def asks(self, method: str, path: str, body: Any = None) -> Any:
        """The document of an answer that must be good."""
        status, text = self.curl(method, path, body)
        assert status in (200, 201), text
        return json.loads(text)


def started(folder: Path, command: str) -> AbstractContextManager[DaemonProcess]:
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": command,
        "TRAINING_CLUSTER_WEBHOOKS__ALLOW_HOSTS": "127.0.0.1",
        "TRAINING_CLUSTER_GRACE_SECONDS": "0",
    }
    return running_daemon(folder / "state", environment)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    with started(tmp_path_factory.mktemp("two"), TALKATIVE) as daemon:
        yield daemon


@pytest.fixture
def daemon(shared: DaemonProcess) -> Iterator[DaemonProcess]:
    """A daemon without jobs."""
    yield shared
    for state in ("queued", "preparing", "running"):
        for job in shared.client.get("/train", params={"status": state}).json()["jobs"]:
            shared.client.delete(f"/train/{job['job_id']}")
            shared.wait_for(job["job_id"], "cancelled")


@pytest.fixture
def failing(tmp_path: Path) -> Iterator[DaemonProcess]:
    """A daemon whose trainer says something and fails."""
    with started(tmp_path, FAILING) as daemon:
        yield daemon


@pytest.fixture
def people(daemon) -> tuple[Person, Person]:
    return Person(USERS[0], daemon), Person(USERS[1], daemon)


@pytest.fixture
def receiver() -> Iterator[ScriptedServer]:
    with scripted(lambda _: Reply()) as server:
        yield server


def test_both_see_the_queue_and_neither_touches_the_others_job(daemon, people):
    ann, ben = people
    job = ann.asks("POST", "/train", {"lora_name": "anns"})["job_id"]
    waiting = ben.asks("POST", "/train", {})["job_id"]
    eventually(lambda: CANARY in ann.curl("GET", f"/train/{job}/logs")[1])
    for person in people:
        queue = person.asks("GET", "/queue")
        assert [each["user"] for each in queue["running"]] == [ann.name]
        assert [each["job_id"] for each in queue["queued"]] == [waiting]
        users = {each["job_id"]: each["user"] for each in person.asks("GET", "/train")["jobs"]}
        assert users == {job: ann.name, waiting: ben.name}
    assert ben.asks("GET", f"/train/{job}")["status"] == "running"
    for path in (f"/train/{job}", f"/train/{job}/logs", f"/train/{job}/logs/stream"):
        status, text = ben.curl("DELETE" if path.endswith(job) else "GET", path)
        assert (status, CANARY in text) == (403, False)
    assert ann.curl("DELETE", f"/train/{waiting}")[0] == 403
    assert ann.asks("DELETE", f"/train/{job}")["status"] == "stopping"
    daemon.wait_for(job, "cancelled")
    told = ben.asks("GET", f"/events?job={job}&type=job.cancelled")["events"]
    assert [event["data"]["by"] for event in told] == [ann.name]


def test_what_a_job_said_reaches_nobody_else_by_any_way(failing, receiver):
    ann, ben = (Person(name, failing) for name in USERS)
    hook = ben.asks("POST", "/webhooks", {"url": receiver.url})["webhook_id"]
    body = {
        "webhook_url": f"{receiver.url}/{CANARY}",
        "tracking": {"project": CANARY},
        "tracking_backend": "none",
    }
    job = ann.asks("POST", "/train", body)["job_id"]
    failing.wait_for(job, "failed")
    told = eventually(lambda: [r for r in receiver.requests if r.body["type"] == "job.failed"][1:])
    assert told, "both receivers are told"
    mine = ann.asks("GET", f"/train/{job}")
    assert CANARY in mine["error"]["message"]
    assert mine["webhook_id"]
    for path in (
        *("/", "/queue", "/train", f"/train/{job}", "/events", f"/events?job={job}", "/metrics"),
        *(f"/train/{job}/metrics", "/events/stream?after=0", f"/events/stream?after=0&job={job}"),
        *("/devices", "/webhooks", f"/webhooks/{hook}/deliveries", f"/train/{job}/logs"),
    ):
        status, text = ben.curl("GET", path)
        assert status in (200, 403), path
        assert CANARY not in text, path
        assert mine["webhook_id"] not in text, path
    seen = ben.asks("GET", f"/train/{job}")["error"]
    assert seen["code"] == mine["error"]["code"]
    bens = [r for r in receiver.requests if r.body["data"]["webhook_id"] == hook]
    assert {r.body["type"] for r in bens} >= {"job.queued", "job.failed"}
    assert not any(CANARY.encode() in r.raw for r in bens)


def test_a_webhook_of_somebody_else_does_not_exist(daemon, people, receiver):
    ann, ben = people
    hook = ann.asks("POST", "/webhooks", {"url": f"{receiver.url}/{CANARY}"})["webhook_id"]
    number = ann.asks("POST", f"/webhooks/{hook}/test")["delivery"]
    eventually(lambda: receiver.requests)
    before = len(receiver.requests)
    for method, path, body in (
        ("GET", f"/webhooks/{hook}", None),
        ("GET", f"/webhooks/{hook}/deliveries", None),
        ("GET", f"/webhooks/{hook}/deliveries/{number}", None),
        ("POST", f"/webhooks/{hook}/deliveries/{number}/replay", None),
        ("POST", f"/webhooks/{hook}/replay", {}),
        ("POST", f"/webhooks/{hook}/rotate", None),
        ("POST", f"/webhooks/{hook}/test", None),
        ("DELETE", f"/webhooks/{hook}", None),
    ):
        assert ben.curl(method, path, body)[0] == 404, path
    assert ben.asks("GET", "/webhooks") == {"webhooks": []}
    assert hook not in ben.curl("GET", "/events?limit=1000")[1]
    assert len(receiver.requests) == before
    assert ann.asks("GET", f"/webhooks/{hook}")["user"] == ann.name


def test_a_device_that_somebody_holds_is_released_by_nobody_else(daemon, people):
    ann, ben = people
    ann.asks("PUT", "/devices/0/hold", {"reason": "a notebook"})
    assert ben.curl("PUT", "/devices/0/hold", {"reason": "mine"})[0] == 403
    assert ben.curl("DELETE", "/devices/0/hold")[0] == 403
    assert ben.asks("GET", "/devices")["devices"][0]["standing"] == "held"
    assert ann.asks("DELETE", "/devices/0/hold")["released"] is True


def test_who_hangs_up_before_the_kernel_is_asked_is_nobody_and_not_root(daemon, people):
    ann, ben = people
    job = ann.asks("POST", "/train", {})["job_id"]
    port = daemon.client.base_url.port
    request = f"DELETE /train/{job} HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n"
    script = (
        f"for i in $(seq 100); do exec 3<>/dev/tcp/127.0.0.1/{port};"
        f" printf '{request}{request}{request}' >&3; exec 3>&-; done"
    )
    run_as(ben.name, "bash", "-c", script)
    time.sleep(0.2)
    assert ann.asks("GET", f"/train/{job}")["status"] in ("preparing", "running")
    asked = {"type": "job.stopping", "job": job}
    kept = daemon.client.get("/events", params=asked).json()["events"]
    assert kept == []


def test_neither_is_an_admin(daemon, people):
    for person in people:
        made = person.asks("POST", "/tokens", {"label": "my laptop"})
        assert (made["user"], made["role"]) == (person.name, "submitter")
        assert person.curl("POST", "/tokens", {"role": "admin"})[0] == 403
        assert person.curl("POST", "/tokens", {"user": "root"})[0] == 403
        owners = {each["user"] for each in person.asks("GET", "/tokens")["tokens"]}
        assert owners == {person.name}
