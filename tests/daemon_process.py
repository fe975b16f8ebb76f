"""A real daemon in a process of its own, and the trainers the tests give it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2

ROOT = Path(__file__).parents[1]
TRAINERS = Path(__file__).parent / "trainers"
FINISHED = {"completed", "failed", "cancelled"}


def eventually(check: Callable[[], Any], seconds: float = 20.0, pause: float = 0.01) -> Any:
    """Wait until `check` gives something true and return it; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"still {found!r} after {seconds} s")
        time.sleep(pause)


def trainer(name: str, *arguments: object) -> str:
    """The `trainer.command` for a trainer of tests/trainers."""
    words = (sys.executable, "-I", "-S", str(TRAINERS / f"{name}.py"), *map(str, arguments))
    return json.dumps(words)


class DaemonProcess:
    """`training-cluster serve` on a free port and its own state directory."""

    def __init__(self, state: Path, environment: Mapping[str, str] | None = None) -> None:
        self.state = state
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(state.parent),
            "TRAINING_CLUSTER_HOST": "127.0.0.1",
            "TRAINING_CLUSTER_DEVICES__KIND": "cpu",
            "TRAINING_CLUSTER_LOG_FORMAT": "json",
            "TRAINING_CLUSTER_GRACE_SECONDS": "2",
            "TRAINING_CLUSTER_TRACKING__BACKENDS": "",
            # these trainers write nothing: a small disk must not hold their jobs back
            "TRAINING_CLUSTER_DISK__PREFLIGHT": "false",
            "TRAINING_CLUSTER_DISK__BALLAST_MIB": "4",
            "TRAINING_CLUSTER_CONFIG": str(ROOT / "configs" / "training_cluster.toml"),
            **(environment or {}),
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.client = httpx2.Client(trust_env=False, timeout=20)
        self.port = self._said = 0

    @property
    def log(self) -> str:
        """What the daemon has said so far."""
        return (self.state.parent / "daemon.log").read_text()

    def start(self, port: int = 0) -> DaemonProcess:
        """Start it and wait until it answers."""
        self.launch(port)
        if not self.comes_up():
            raise AssertionError(f"the daemon ended with {self.process.returncode}:\n{self.log}")
        return self

    def launch(self, port: int = 0) -> None:
        """Start it."""
        self.state.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "training_cluster", "serve", "--port", str(port)]
        with (self.state.parent / "daemon.log").open("ab") as log:
            self._said = log.tell()
            self.process = subprocess.Popen(
                [*command, "--state-dir", str(self.state)],
                env=self.environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    def comes_up(self) -> bool:
        """Wait until it answers; False when it ends before."""
        for step in (self._announced_port, self._answers):
            eventually(step, 60)
        return self.process.poll() is None

    def _announced_port(self) -> bool:
        with (self.state.parent / "daemon.log").open("rb") as log:
            log.seek(self._said)
            for line in log:
                if b'"daemon.listen"' in line and line.endswith(b"\n"):
                    self.port = int(json.loads(line)["url"].rpartition(":")[2])
                    self.client.base_url = f"http://127.0.0.1:{self.port}"
                    return True
        return self.process.poll() is not None

    def _answers(self) -> bool:
        with contextlib.suppress(httpx2.TransportError):
            return self.client.get("/healthz").status_code == 200
        return self.process.poll() is not None

    @property
    def tunnel(self) -> str:
        """The URL of the tunnel's listener, of a daemon that has one."""
        lines = [line for line in self.log.splitlines() if '"daemon.tunnel"' in line]
        return str(json.loads(lines[-1])["url"])

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(15)

    def submit(self, strategy: str = "queue", **fields: Any) -> dict[str, Any]:
        """Submit a job; returns the answer's body."""
        response = self.client.post("/train", params={"strategy": strategy}, json=fields)
        assert response.status_code == 200, response.text
        return dict(response.json())

    def job(self, job_id: str | int) -> dict[str, Any]:
        """A job's present view."""
        response = self.client.get(f"/train/{job_id}")
        assert response.status_code == 200, response.text
        return dict(response.json())

    def wait_for(self, job_id: str | int, *states: str, seconds: float = 30.0) -> dict[str, Any]:
        """Wait until a job is in one of these states, finished if none is named."""
        wanted = set(states) or FINISHED
        return dict(eventually(lambda: self._in_state(job_id, wanted), seconds))

    def _in_state(self, job_id: str | int, wanted: set[str]) -> dict[str, Any] | None:
        view = self.job(job_id)
        if view["status"] in FINISHED and view["status"] not in wanted:
            raise AssertionError(f"ended as {view['status']}: {view['error']}")
        return view if view["status"] in wanted else None

    def attempt_dir(self, job_id: str, number: int = 1) -> Path:
        """Where an attempt of a job lives."""
        return self.state / "jobs" / job_id / f"attempt-{number}"


def processes_of(directory: Path) -> list[int]:
    """Living processes that carry the marker of an attempt below `directory`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                environment = (entry / "environ").read_bytes().split(b"\0")
                if any(
                    item.startswith(f"TRAINING_CLUSTER_ATTEMPT={directory}".encode())
                    for item in environment
                ) and not _is_zombie(entry):
                    found.append(int(entry.name))
    return found


def processes_in(directory: Path) -> list[int]:
    """Living processes that work in a directory, whatever their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if os.readlink(entry / "cwd") == str(directory) and not _is_zombie(entry):
                    found.append(int(entry.name))
    return found


def processes_naming(path: Path) -> list[int]:
    """Living processes with a path anywhere in their environment, without this one."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                named = os.fsencode(path) in (entry / "environ").read_bytes()
                if named and not _is_zombie(entry):
                    found.append(int(entry.name))
    return found


def _is_zombie(process: Path) -> bool:
    return (process / "stat").read_text().rpartition(")")[2].split()[0] == "Z"


@contextlib.contextmanager
def running_daemon(
    state: Path, environment: Mapping[str, str] | None = None
) -> Iterator[DaemonProcess]:
    """A started daemon; at the end it is stopped and whatever its attempts left is killed."""
    daemon = DaemonProcess(state, environment)
    try:
        yield daemon.start()
    finally:
        if daemon.process is not None and daemon.process.poll() is None:
            daemon.kill()
        daemon.client.close()
        for pid in processes_of(state):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
