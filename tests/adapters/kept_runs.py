"""Real places for runs, and what is read back from them by the trackers' own code."""

from __future__ import annotations

import copy
import json
import socket
import subprocess
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests.adapters.tracker_parts import PATIENCE_SECONDS, a_run
from training_cluster.ports import TrackedRun

HERE = Path(__file__).parent
STEP_METRIC = "train/global_step"
Points = dict[str, list[tuple[int, float, float]]]


@dataclass
class Kept:
    """A run as its tracker has it: points are step, Unix seconds and value by metric, sorted as
    they were logged; `status` is one of ours."""

    name: str
    status: str
    points: Points
    parameters: Mapping[str, Any]
    artifacts: list[str]
    raw: list[dict[str, Any]] = field(default_factory=list)


class Place(Protocol):
    """Where a tracker keeps runs."""

    tracker: str
    configuration: dict[str, Any]

    def run(self, key: str = ..., **changes: Any) -> TrackedRun:
        """A run to be kept here."""
        ...

    def read(self) -> list[Kept]:
        """All runs."""
        ...


class MlflowDatabase:
    """MLflow's own database, without a server."""

    tracker = "mlflow"

    def __init__(self, folder: Path, python: Path) -> None:
        self.python = python
        self.uri = f"sqlite:///{folder / 'mlflow.db'}"
        artifacts = str(folder / "artifacts")
        self.configuration = {"folder": str(folder), "uri": self.uri, "artifact_root": artifacts}
        self.project = "tests"

    def run(self, key: str = "job-1", **changes: Any) -> TrackedRun:
        return a_run(key, **{"project": self.project, **changes})

    def document(self) -> dict[str, Any]:
        """All of the experiment, as mlflow_reading.py prints it."""
        return dict(_read(self.python, "mlflow_reading.py", self.uri, self.project))

    def read(self) -> list[Kept]:
        return [_from_mlflow(run) for run in self.document()["runs"]]


class MlflowServer(MlflowDatabase):
    """A real `mlflow server`, that may be killed and started again."""

    def __init__(self, folder: Path, python: Path) -> None:
        super().__init__(folder, python)
        self.port = _free_port()
        self.store, self.uri = self.uri, f"http://127.0.0.1:{self.port}"
        self.folder = folder
        self.configuration = {"folder": str(folder), "uri": self.uri}
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [str(self.python), "-m", "mlflow", "server", "--workers", "1"]
        command += ["--backend-store-uri", self.store, "--port", str(self.port)]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.folder, start_new_session=True
            )
        patience = time.monotonic() + 2 * PATIENCE_SECONDS
        while not self._answers():
            assert self.process.poll() is None, (self.folder / "server.log").read_text()
            assert time.monotonic() < patience, (self.folder / "server.log").read_text()
            time.sleep(0.1)

    def for_test(self, name: str, folder: Path) -> MlflowServer:
        """The same server, with an experiment and a worker's folder for one test."""
        place = copy.copy(self)
        place.project = name
        place.configuration = {**self.configuration, "folder": str(folder)}
        return place

    def kill(self) -> None:
        """kill -9, with all its workers."""
        if self.process is not None:
            subprocess.run(["pkill", "-KILL", "-s", str(self.process.pid)], check=False)
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        self.kill()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


class WandbFiles:
    """W&B without a key: files."""

    tracker = "wandb"

    def __init__(self, folder: Path, python: Path) -> None:
        self.folder, self.python = folder, python
        self.configuration = {"folder": str(folder), "mode": "auto"}

    def run(self, key: str = "job-1", **changes: Any) -> TrackedRun:
        return a_run(key, **changes)

    def documents(self) -> list[dict[str, Any]]:
        """Everything, as wandb_reading.py prints it."""
        return list(_read(self.python, "wandb_reading.py", str(self.folder)))

    def read(self) -> list[Kept]:
        files: dict[str, list[dict[str, Any]]] = {}
        for document in self.documents():
            if "run_id" in document:  # not torn in its first records
                files.setdefault(document["run_id"], []).append(document)
        return [self._run(run_id, parts) for run_id, parts in files.items()]

    def _run(self, run_id: str, parts: list[dict[str, Any]]) -> Kept:
        """All files of a run, as `wandb sync` would bring them together."""
        points: Points = {}
        for _, row in sorted((row for part in parts for row in part["rows"]), key=lambda r: r[0]):
            for name, value in row.items():
                if not name.startswith("_") and name != STEP_METRIC:
                    point = (row.get(STEP_METRIC), row["_timestamp"], value)
                    points.setdefault(name, []).append(point)
        last = parts[-1]
        status = "completed" if last["exit_code"] == 0 else last["summary"].get("status", "running")
        files = [file for part in parts for file in part["files"]]
        config = {name: value for part in parts for name, value in part["config"].items()}
        return Kept(last["name"], status, points, config, sorted(set(files)), parts)


def _from_mlflow(run: dict[str, Any]) -> Kept:
    statuses = {"FINISHED": "completed", "FAILED": "failed", "KILLED": "cancelled"}
    points = {
        name: [(step, ms / 1000, value) for step, ms, value in sorted(curve, key=lambda p: p[1])]
        for name, curve in run["metrics"].items()
    }
    status = statuses.get(run["status"], "running")
    return Kept(run["name"], status, points, run["params"], run["artifacts"], [run])


def _read(python: Path, script: str, *arguments: str) -> Any:
    command = [str(python), "-I", str(HERE / script), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=PATIENCE_SECONDS)
    return json.loads(done.stdout)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
