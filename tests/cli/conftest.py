"""The command line as the tests call it: in this process, in one of its own, on a terminal."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.daemon_process import DaemonProcess, eventually, running_daemon, trainer
from training_cluster.cli.main import main

PROGRAM = (sys.executable, "-m", "training_cluster")


@dataclass
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on standard output."""
        return json.loads(self.out)


Run = Callable[..., Result]


def failed(result: Result, *said: str, code: int = 1) -> None:
    """A failure in lines for people, without a traceback."""
    assert result.code == code, result
    assert result.err.startswith("error: "), result.err
    assert "Traceback" not in result.err
    for text in said:
        assert text in result.err


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No settings, state or daemon of whoever runs the tests."""
    for name in list(os.environ):
        if name.startswith(("TRAINING_CLUSTER_", "XDG_")) or name in ("NO_COLOR", "FORCE_COLOR"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TRAINING_CLUSTER_URL", "http://127.0.0.1:1")
    # a program started in the background of a shell ignores Ctrl-C, and so would its children
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process."""

    def call(*words: object) -> Result:
        capfd.readouterr()
        code = main([str(word) for word in words])
        return Result(code, *capfd.readouterr())

    return call


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[DaemonProcess], DaemonProcess]:
    """Make a daemon the one that commands talk to."""

    def choose(daemon: DaemonProcess) -> DaemonProcess:
        monkeypatch.setenv("TRAINING_CLUSTER_URL", f"http://127.0.0.1:{daemon.port}")
        return daemon

    return choose


@pytest.fixture
def held(held_daemon: DaemonProcess, use: Callable[..., DaemonProcess]) -> DaemonProcess:
    """The chosen daemon; its jobs run until the test releases them."""
    return use(held_daemon)


@pytest.fixture
def quick(shared_daemon: DaemonProcess, use: Callable[..., DaemonProcess]) -> DaemonProcess:
    """The chosen daemon; its jobs complete at once."""
    return use(shared_daemon)


@pytest.fixture
def stepping(tmp_path: Path, use: Callable[..., DaemonProcess]) -> Iterator[DaemonProcess]:
    """The chosen daemon; its jobs make five steps and complete."""
    environment = {"TRAINING_CLUSTER_TRAINER__COMMAND": trainer("stepping", 5, 0.3)}
    with running_daemon(tmp_path / "state", environment) as daemon:
        yield use(daemon)


@pytest.fixture
def led(tmp_path: Path, use: Callable[..., DaemonProcess]) -> Iterator[DaemonProcess]:
    """The chosen daemon; its jobs make so many of their four steps as the file `steps` says."""
    environment = {"TRAINING_CLUSTER_TRAINER__COMMAND": trainer("led", tmp_path)}
    with running_daemon(tmp_path / "state", environment) as daemon:
        yield use(daemon)


@pytest.fixture
def failing(tmp_path: Path, use: Callable[..., DaemonProcess]) -> Iterator[DaemonProcess]:
    """The chosen daemon; its jobs fail."""
    environment = {"TRAINING_CLUSTER_TRAINER__COMMAND": "/bin/sh -c 'echo no luck; exit 3'"}
    with running_daemon(tmp_path / "state", environment) as daemon:
        yield use(daemon)


class Started:
    """A command in a process of its own, its standard output a pipe or a terminal."""

    def __init__(self, *words: str, terminal: bool = False, **environment: str) -> None:
        master, slave = pty.openpty() if terminal else os.pipe()
        self._read = master
        self.process = subprocess.Popen(
            [*PROGRAM, *words],
            stdin=subprocess.DEVNULL,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "TERM": "xterm", **environment},
        )
        os.close(slave)
        os.set_blocking(self._read, False)
        self._seen = b""

    @property
    def text(self) -> str:
        """What it has said so far."""
        # a terminal whose last user has gone reads as an error
        with suppress(OSError):
            while piece := os.read(self._read, 65536):
                self._seen += piece
        return self._seen.decode()

    def until(self, text: str) -> None:
        """Wait until it has said this."""
        eventually(lambda: text in self.text, 30)

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def end(self) -> int:
        """Wait for its end; the exit code."""
        eventually(lambda: (self.text, self.process.poll() is not None)[1], 30)
        return self.process.returncode

    def close(self) -> None:
        """Leave nothing behind."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._read)


@pytest.fixture
def start() -> Iterator[Callable[..., Started]]:
    """Start a command in a process of its own."""
    begun: list[Started] = []

    def begin(*words: str, terminal: bool = False, **environment: str) -> Started:
        begun.append(Started(*words, terminal=terminal, **environment))
        return begun[-1]

    yield begin
    for one in begun:
        one.close()
