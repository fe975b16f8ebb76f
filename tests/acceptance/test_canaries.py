"""Secrets with names of their own are planted wherever the daemon holds one, jobs run, succeed and
fail, receivers and trackers are told and cannot be told; then they are looked for everywhere."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from tests.acceptance.test_webhook_targets import Listener
from tests.daemon_process import DaemonProcess, eventually, running_daemon, trainer
from tests.trust import Promise

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
NO = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"
# where a secret may lie once jobs have ended: in files of mode 0600
AT_HOME = re.compile(r"state/secrets/[^/]+")


class Canaries:
    """The secrets, each a word that nothing else has in it."""

    def __init__(self) -> None:
        self.words: dict[str, str] = {}

    def plant(self, name: str) -> str:
        """A new one."""
        self.words[name] = f"canary{secrets.token_hex(12)}"
        return self.words[name]

    def adopt(self, name: str, word: str) -> None:
        """One that the daemon has made."""
        self.words[name] = word

    def found_in(self, data: bytes) -> list[str]:
        """Which of them some bytes have in them."""
        return [name for name, word in self.words.items() if word.encode() in data]


class Search:
    """Where was looked, and what was seen where it does not belong."""

    def __init__(self, canaries: Canaries) -> None:
        self.canaries = canaries
        self.places = 0
        self.sightings: list[tuple[str, list[str]]] = []

    def look(self, place: str, data: bytes | str) -> None:
        """Look into some bytes."""
        self.places += 1
        found = self.canaries.found_in(data.encode() if isinstance(data, str) else data)
        if found:
            self.sightings.append((place, found))


def environment(canaries: Canaries, record: Path) -> dict[str, str]:
    """Of a daemon that holds secrets; both trackers are out of reach."""
    password = canaries.plant("MLflow's password in its address")
    return {
        "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("telling", record),
        "TRAINING_CLUSTER_WEBHOOKS__ALLOW_HOSTS": "127.0.0.1",
        "TRAINING_CLUSTER_TRAINER__PASS_ENVIRONMENT": "LAB_SECRET",
        "TRAINING_CLUSTER_TRACKING__MLFLOW_URI": f"http://lab:{password}@127.0.0.1:9",
        "TRAINING_CLUSTER_TRACKING__WANDB_BASE_URL": "http://127.0.0.1:9",
        "HF_TOKEN": canaries.plant("HF_TOKEN"),
        "LAB_SECRET": canaries.plant("a variable the operator passes"),
        "WANDB_API_KEY": canaries.plant("WANDB_API_KEY").ljust(40, "0")[:40],
        "MLFLOW_TRACKING_PASSWORD": canaries.plant("MLFLOW_TRACKING_PASSWORD"),
        "AWS_SECRET_ACCESS_KEY": canaries.plant("AWS_SECRET_ACCESS_KEY"),
    }


def subscribe(daemon: DaemonProcess, canaries: Canaries, port: int, name: str) -> str:
    """A signed webhook and one of Slack's form; the id of the first."""
    secret = canaries.plant(f"address of a webhook, {name}")
    query = canaries.plant(f"query of a webhook, {name}")
    made = daemon.client.post(
        "/webhooks", json={"url": f"http://127.0.0.1:{port}/{secret}?token={query}"}
    ).json()
    canaries.adopt(f"signing secret, {name}", made["secret"].removeprefix("whsec_"))
    rotated = daemon.client.post(f"/webhooks/{made['webhook_id']}/rotate").json()["secret"]
    canaries.adopt(f"rotated signing secret, {name}", rotated.removeprefix("whsec_"))
    slack = canaries.plant(f"address of Slack, {name}")
    url = f"slack+http://127.0.0.1:{port}/services/T/B/{slack}"
    assert daemon.client.post("/webhooks", json={"url": url}).status_code < 300
    return str(made["webhook_id"])


def use(daemon: DaemonProcess, search: Search, record: Path) -> tuple[list[Listener], list[str]]:
    """Have every secret used: told, failed to be told, run with, refused."""
    canaries = search.canaries
    listeners = [Listener("127.0.0.1", 0, OK), Listener("127.0.0.1", 0, NO)]
    hooks = [
        subscribe(daemon, canaries, port, name)
        for port, name in (
            (listeners[0].port, "heard"),
            (listeners[1].port, "failing"),
            (9, "gone"),
        )
    ]
    issued = daemon.client.post("/tokens", json={"label": "for a script"}).json()
    canaries.adopt("a token", issued["token"].rpartition("_")[2])
    jobs = []
    for place, cutoff in enumerate((64, 9)):
        secret = canaries.plant(f"webhook of job {place}")
        url = f"http://127.0.0.1:{listeners[place].port}/{secret}"
        job = daemon.submit(
            webhook_url=url, cutoff_len=cutoff, tracking_backend=["mlflow", "wandb"]
        )
        jobs.append(job["job_id"])
    daemon.wait_for(jobs[0], "running")
    look_at_processes(daemon, search)
    refuse(daemon, search)
    (record / "release").touch()
    assert daemon.wait_for(jobs[0], "completed", "failed")
    assert daemon.wait_for(jobs[1], "failed")
    eventually(lambda: all(listener.heard for listener in listeners))
    eventually(lambda: _all_tried(daemon, hooks))
    return listeners, [*jobs, *hooks]


def _all_tried(daemon: DaemonProcess, hooks: list[str]) -> bool:
    found = [daemon.client.get(f"/webhooks/{hook}/deliveries").json() for hook in hooks]
    return all(page["deliveries"] and page["deliveries"][0]["tries"] for page in found)


def refuse(daemon: DaemonProcess, search: Search) -> None:
    """Requests that are wrong and have a secret in them: the answer does not repeat it."""
    for name, body in {
        "a token": {"overrides": {"hub_token": search.canaries.plant("a token said in a job")}},
        "a closed address": {
            "webhook_url": f"http://10.0.0.1/{search.canaries.plant('a closed address')}"
        },
        "a broken address": {
            "webhook_url": f"https://u:{search.canaries.plant('a broken address')}@example.com/"
        },
    }.items():
        answer = daemon.client.post("/train", json=body)
        assert answer.status_code == 422
        search.look(f"refusal of {name}", answer.content)
    bearer = f"tq_{search.canaries.plant('a wrong token')}_x"
    wrong = daemon.client.get("/train", headers={"Authorization": f"Bearer {bearer}"})
    search.look("refusal of a wrong token", wrong.content)


def look_at_processes(daemon: DaemonProcess, search: Search) -> None:
    """The command lines of the daemon and of all it has started, wherever they belong now."""
    assert daemon.process is not None
    own = {daemon.process.pid, *(p.pid for p in psutil.Process(daemon.process.pid).children(True))}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid in own or str(daemon.state) in " ".join(process.cmdline()):
                search.look(
                    f"command line of {process.pid}",
                    Path(f"/proc/{process.pid}/cmdline").read_bytes(),
                )


def look_at_answers(daemon: DaemonProcess, search: Search, ids: list[str]) -> None:
    """Every GET route there is, with everything there is to ask for."""
    client = daemon.client
    values = {
        "job_id": ids[:2],
        "webhook_id": ids[2:],
        "number": [str(number) for number in range(1, 12)],
        "device": ["0"],
    }
    paths = client.get("/openapi.json").json()["paths"]
    for template, operations in paths.items():
        if "get" in operations:
            for path in _filled(template, values):
                search.look(f"GET {path}", _read(client, path))
    for path in ("/openapi.json", "/docs", f"/train/{ids[0]}/logs?raw=1", "/metrics", "/"):
        search.look(f"GET {path}", _read(client, path))
    search.look("the page", client.get("/", headers={"Accept": "text/html"}).content)


def _filled(template: str, values: dict[str, list[str]]) -> Iterator[str]:
    names = re.findall(r"\{(\w+)\}", template)
    if not names:
        yield template
        return
    for value in values.get(names[0], ["1"]):
        yield from _filled(template.replace(f"{{{names[0]}}}", value), values)


def _read(client: httpx2.Client, path: str) -> bytes:
    """An answer, of a stream what comes in half a second."""
    data = b""
    with contextlib.suppress(httpx2.ReadTimeout), client.stream("GET", path, timeout=0.5) as answer:
        data = str(answer.headers).encode()
        for piece in answer.iter_raw():
            data += piece
    return data


def look_at_files(folder: Path, search: Search) -> None:
    """Every file below a folder; those that may hold secrets must be closed to others."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.is_symlink():
            continue
        found = search.canaries.found_in(path.read_bytes())
        search.places += 1
        place = str(path.relative_to(folder))
        mode = stat.S_IMODE(path.stat().st_mode)
        if found and not (AT_HOME.fullmatch(place) and mode == 0o600):
            search.sightings.append((f"{place} ({mode:o})", found))


def look_at_database(file: Path, search: Search) -> None:
    """What `.dump` would print."""
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        search.look(f"dump of {file.name}", "\n".join(connection.iterdump()))


def look_at_commands(daemon: DaemonProcess, search: Search, folder: Path) -> None:
    """What commands print, and the files of a backup."""
    target = folder / "backup"
    for words in (
        ["config", "show"],
        ["config", "show", "--json"],
        ["doctor"],
        ["backup", str(target), "--state-dir", str(daemon.state)],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "training_cluster", *words],
            env={**daemon.environment, "TRAINING_CLUSTER_URL": str(daemon.client.base_url)},
            capture_output=True,
            timeout=120,
        )
        search.look(" ".join(words[:2]), done.stdout + done.stderr)
    assert target.exists(), done.stderr
    for path in target.rglob("*"):
        if path.is_file():
            place = path.relative_to(target)
            if "secrets" not in place.parts or stat.S_IMODE(path.stat().st_mode) != 0o600:
                search.look(f"backup: {place}", path.read_bytes())


def check(tmp_path: Path, record: Path, more: dict[str, str]) -> str:
    """The whole search; the figure in words."""
    canaries = Canaries()
    search = Search(canaries)
    planted = environment(canaries, record)
    os.umask(0o022)
    with running_daemon(tmp_path / "home" / "state", {**planted, **more}) as daemon:
        listeners, ids = use(daemon, search, record)
        look_at_answers(daemon, search, ids)
        look_at_processes(daemon, search)
        look_at_commands(daemon, search, tmp_path)
        look_at_database(daemon.state / "queue.db", search)
        daemon.kill()
        daemon.start()
        look_at_answers(daemon, search, ids)
        assert daemon.stop() == 0
    look_at_files(tmp_path / "home", search)
    for listener in listeners:
        for heard in listener.heard:
            # a receiver hears its own address: in the first line
            search.look("a receiver", heard.partition(b"\r\n")[2])
        listener.close()
    assert search.sightings == []
    assert len(canaries.words) > 20
    return f"{len(canaries.words)} secrets, {search.places} places: 0 sightings"


def test_no_secret_is_seen_where_it_does_not_belong(tmp_path, record, trust):
    trust(Promise.CANARIES, check(tmp_path, record, {}), form="short")


@pytest.mark.slow
@pytest.mark.trackers
def test_no_secret_is_seen_with_real_trackers(tmp_path, record, trust, tracker_python):
    more: dict[str, Any] = {
        "TRAINING_CLUSTER_TRACKING__BACKENDS": "mlflow,wandb",
        "TRAINING_CLUSTER_TRACKING__ENVIRONMENT_DIR": str(tracker_python.parents[1]),
        "TRAINING_CLUSTER_TRACKING__DEADLINE_SECONDS": "20",
    }
    found = [check(tmp_path / "away", record, more)]
    (record / "release").unlink()
    here = {
        **more,
        "TRAINING_CLUSTER_TRACKING__MLFLOW_URI": "",
    }
    found.append(check(tmp_path / "here", record, here))
    trust(Promise.CANARIES, f"{found[0]} (trackers away); {found[1]} (a store)", form="full")
