"""Runs the commands over a state directory, and looks at what trainers recorded."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from tests.daemon_process import DaemonProcess, eventually


def command(daemon: DaemonProcess, *words: object, code: int = 0) -> Any:
    """Run `training-cluster ... --state-dir STATE --json`; returns its document."""
    line = [sys.executable, "-m", "training_cluster", *map(str, words)]
    line += ["--state-dir", str(daemon.state), "--json"]
    done = subprocess.run(
        line, env=daemon.environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def refusal(daemon: DaemonProcess) -> str:
    """What a daemon says that does not come up."""
    line = [sys.executable, "-m", "training_cluster", "serve", "--port", "0"]
    line += ["--state-dir", str(daemon.state)]
    done = subprocess.run(
        line, env=daemon.environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1, done.stderr
    return done.stderr


def launches(record: Path) -> Counter[tuple[str, ...]]:
    """How often each attempt was launched."""
    lines = (record / "launches").read_text().splitlines()
    return Counter(tuple(json.loads(line)["attempt"]) for line in lines)


def recorded(daemon: DaemonProcess, *job_ids: str) -> None:
    """Wait until the daemon has written the records of these jobs."""
    folder = daemon.state / "jobs"
    eventually(lambda: all((folder / job / "job.json").exists() for job in job_ids))


def run_client(daemon: DaemonProcess, *words: str) -> str:
    """Run a command against a running daemon; returns what it printed."""
    line = [sys.executable, "-m", "training_cluster", *words]
    line += ["--url", f"http://127.0.0.1:{daemon.port}"]
    done = subprocess.run(
        line, env=daemon.environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
