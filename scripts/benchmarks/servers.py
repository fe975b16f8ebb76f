"""Starts the servers under test as subprocesses and reads what the kernel knows of them."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.client import Connection, get

_HERE = Path(__file__).resolve().parent
_START_SECONDS = 60.0
_BEFORE_THE_CLI = """\
import sys
from training_cluster.daemon import serve
from training_cluster.settings import load_settings
sys.exit(serve(load_settings(port=int(sys.argv[1]), state_dir=sys.argv[2])))"""


class Server:
    """A server on a loopback port of its own; answers when the constructor returns."""

    def __init__(self, command: list[str], port: int, environment: dict[str, str], log: Path):
        self.port = port
        self._log = log
        with log.open("ab") as output:
            self._spawned = time.perf_counter()
            self._process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self.pid = self._process.pid
        self.alive_ms = self._first_answer("/healthz")

    def _first_answer(self, path: str) -> float:
        while time.perf_counter() - self._spawned < _START_SECONDS:
            if self._process.poll() is not None:
                break
            try:
                connection = Connection(self.port)
            except OSError:
                time.sleep(0.001)
                continue
            connection.ask(get(path))
            connection.close()
            return self.age_ms()
        self.stop()
        raise RuntimeError(f"{self._process.args!r} does not answer:\n{self.last_words()}")

    def last_words(self) -> str:
        """The end of what it has logged."""
        return self._log.read_text(errors="replace")[-2000:]

    def age_ms(self) -> float:
        """Milliseconds since it was spawned."""
        return (time.perf_counter() - self._spawned) * 1e3

    def stop(self) -> None:
        """Stop it in order, by force if it takes long; may be called twice."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def floor_app(directory: Path) -> Server:
    """The minimal app over `directory/floor.db`."""
    port = free_port()
    command = [sys.executable, str(_HERE / "floor_app.py"), str(port), str(directory / "floor.db")]
    return Server(command, port, dict(os.environ), directory / "floor.log")


def fan_out(directory: Path) -> Server:
    """The bare fan-out of lines."""
    port = free_port()
    command = [sys.executable, str(_HERE / "fan_out.py"), str(port)]
    return Server(command, port, dict(os.environ), directory / "fan_out.log")


def daemon(state_dir: Path, trainer: list[str], slots: int) -> Server:
    """The daemon over a state directory, isolated from this machine's settings."""
    place = state_dir.parent
    port = free_port()
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("TRAINING_CLUSTER_")
    }
    environment |= {
        "TRAINING_CLUSTER_CONFIG": str(_empty_settings(place)),
        "TRAINING_CLUSTER_DATASET_ROOTS": str(_datasets(place)),
        "TRAINING_CLUSTER_DATA_DIR": str(place / "data"),
        "TRAINING_CLUSTER_TRAINER__COMMAND": json.dumps(trainer),
        "TRAINING_CLUSTER_DEVICES__KIND": "cpu",
        "TRAINING_CLUSTER_CPU_SLOTS": str(slots),
    }
    log = place / f"{state_dir.name}.log"
    return Server([*_serve(port, state_dir)], port, environment, log)


def _serve(port: int, state_dir: Path) -> list[str]:
    if importlib.util.find_spec("training_cluster.__main__") is None:
        return [sys.executable, "-c", _BEFORE_THE_CLI, str(port), str(state_dir)]
    command = [sys.executable, "-m", "training_cluster", "serve"]
    return [*command, "--port", str(port), "--state-dir", str(state_dir)]


def _empty_settings(place: Path) -> Path:
    path = place / "empty.toml"
    path.touch()
    return path


def _datasets(place: Path) -> Path:
    """A dataset root with one small version, v1.0."""
    folder = place / "datasets" / "v1.0"
    if not folder.exists():
        folder.mkdir(parents=True)
        row = {"instruction": "Say a word.", "input": "", "output": "Word."}
        manifest = {"format": "alpaca", "train": "train.json", "validation": None}
        about = {"description": "for the benchmark", "license": "Apache-2.0"}
        (folder / "train.json").write_text(json.dumps([row] * 16))
        (folder / "dataset.json").write_text(json.dumps({**manifest, **about}))
    return folder.parent


def free_port() -> int:
    """A loopback port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
