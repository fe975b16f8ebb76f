"""What the commands around the trackers do: tracker, mlflow, wandb sync, and the doctor's look.

MLflow and W&B's recorder are the real ones. W&B's servers cannot be had here, so that its uploader
is a stand-in which writes down how it was called and leaves W&B's own mark of success.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from tests.cli.conftest import Run, Started, failed
from tests.daemon_process import eventually
from training_cluster import tracker_worker
from training_cluster.settings import load_settings
from training_cluster.tracker_environment import environment_path, is_complete, python

# before the tests get a home of their own
TRACKERS = environment_path(load_settings().data_dir)

WORKER = str(Path(tracker_worker.__file__).parent)

_UPLOADER = f"""#!{sys.executable} -I
import json, os, pathlib, sys
called = {{"words": sys.argv[1:], "environment": dict(os.environ)}}
pathlib.Path(__file__).with_name("called.json").write_text(json.dumps(called))
for name in sys.argv[5:]:
    for file in pathlib.Path(name).glob("*.wandb"):
        if "refused" not in name:
            file.with_suffix(".wandb.synced").touch()
"""


@pytest.fixture(autouse=True)
def _no_tracker_of_mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("WANDB_", "MLFLOW_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.setenv("TRAINING_CLUSTER_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("TRAINING_CLUSTER_DATA_DIR", str(tmp_path / "data"))


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The interpreter of the real tracker environment, which the commands use."""
    if not is_complete(TRACKERS):
        pytest.skip("the tracker environment is not installed")
    monkeypatch.setenv("TRAINING_CLUSTER_TRACKING__ENVIRONMENT_DIR", str(TRACKERS))
    return python(TRACKERS)


@pytest.fixture
def uploads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, Any]]:
    """A stand-in for W&B's uploader; tells how it was called, {} when it was not."""
    program = python(tmp_path / "environment")
    program.parent.mkdir(parents=True)
    program.write_text(_UPLOADER)
    program.chmod(0o755)
    (tmp_path / "environment" / "complete.json").touch()
    monkeypatch.setenv("TRAINING_CLUSTER_TRACKING__ENVIRONMENT_DIR", str(tmp_path / "environment"))
    called = program.with_name("called.json")
    return lambda: json.loads(called.read_text()) if called.exists() else {}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A W&B server as far as `wandb sync` asks itself: something that takes connections."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setenv("TRAINING_CLUSTER_TRACKING__WANDB_BASE_URL", address)
        yield address


def _offline_run(tmp_path: Path, name: str, *, synced: bool = False) -> Path:
    directory = tmp_path / "state" / "wandb" / "wandb" / f"offline-run-{name}"
    directory.mkdir(parents=True)
    file = directory / f"run-{name.partition('-')[2]}.wandb"
    file.touch()
    if synced:
        file.with_suffix(".wandb.synced").touch()
    return file


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _doctor(run: Run) -> dict[str, dict[str, str]]:
    return {check["name"]: check for check in run("doctor", "--quick", "--json").document["checks"]}


# tracker install, tracker check, doctor


def test_a_missing_tracker_environment_is_named_with_the_cure_and_stops_nothing(run: Run) -> None:
    failed(run("tracker", "check"), "hint: training-cluster tracker install")
    failed(run("mlflow"), "no complete tracker environment", "training-cluster tracker install")
    found = _doctor(run)["trackers"]
    assert found["verdict"] == "warn"
    assert found["cure"] == "run `training-cluster tracker install`"


def test_an_environment_that_the_settings_name_is_not_installed_into(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINING_CLUSTER_TRACKING__ENVIRONMENT_DIR", str(tmp_path / "conda"))
    failed(run("tracker", "install"), str(tmp_path / "conda"), "unset tracking.environment_dir")
    assert not (tmp_path / "conda").exists()


@pytest.mark.trackers
def test_the_installed_environment_has_both_trackers(run: Run, real: Path) -> None:
    document = run("tracker", "check", "--json").document
    assert document["ok"]
    assert {"python", "mlflow", "wandb"} == {check["name"] for check in document["checks"]}
    assert _doctor(run)["trackers"]["verdict"] == "ok"


def test_the_doctor_says_where_runs_go(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = _doctor(run)
    assert str(tmp_path / "state" / "mlflow.db") in found["mlflow"]["detail"]
    assert "kept offline" in found["wandb"]["detail"]
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setenv("TRAINING_CLUSTER_TRACKING__MLFLOW_URI", "https://me:secret@lab.example/m")
    found = _doctor(run)
    assert found["mlflow"]["detail"] == "runs go to https://lab.example/m"
    assert found["wandb"]["detail"].startswith("online")
    assert "secret" not in json.dumps(found)
    assert "k" * 40 not in json.dumps(found)
    monkeypatch.setenv("TRAINING_CLUSTER_TRACKING__WANDB_MODE", "offline")
    assert _doctor(run)["wandb"]["detail"] == "runs are kept offline, as wandb_mode says"


def test_the_doctor_warns_when_online_is_wanted_without_a_key(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINING_CLUSTER_TRACKING__WANDB_MODE", "online")
    found = _doctor(run)["wandb"]
    assert found["verdict"] == "warn"
    assert "WANDB_API_KEY" in found["cure"]


# mlflow


def test_of_a_tracking_server_the_address_is_told_without_its_password(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINING_CLUSTER_TRACKING__MLFLOW_URI", "http://me:secret@lab:5000/mlflow")
    assert run("mlflow").out == "http://lab:5000/mlflow\n"
    monkeypatch.setenv("TRAINING_CLUSTER_TRACKING__MLFLOW_URI", "postgresql://lab/mlflow")
    failed(run("mlflow"), "tracking.mlflow_uri must be an http(s) address")


@pytest.mark.usefixtures("uploads")
def test_a_port_that_is_taken_is_said_before_anything_starts(
    server: str, start: Callable[..., Started]
) -> None:
    command = start("mlflow", "--port", server.rpartition(":")[2])
    assert command.end() == 1
    assert "error: cannot listen on 127.0.0.1" in command.text
    assert "--port" in command.text


_RECORD = """
import sys
from mlflow import MlflowClient
state = sys.argv[1]
client = MlflowClient(f"sqlite:///{state}/mlflow.db")
experiment = client.create_experiment("lab", f"file://{state}/mlflow-artifacts")
run = client.create_run(experiment, run_name="first").info.run_id
client.log_metric(run, "train/loss", 0.5, step=3)
client.log_text(run, "how it was trained", "config.yaml")
print(run)
"""


@pytest.mark.trackers
def test_mlflow_shows_the_daemons_runs_until_it_is_interrupted(
    real: Path, tmp_path: Path, start: Callable[..., Started]
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    words = [real, "-I", "-W", "ignore", "-c", _RECORD, state]
    run_id = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()[-1]
    port = _free_port()
    with _ended(start("mlflow", "--port", str(port))) as command:
        with _client(port) as http:
            eventually(lambda: _answers(http), 60, 0.2)
            body = {"experiment_ids": ["1"]}
            found = http.post("/api/2.0/mlflow/runs/search", json=body).json()["runs"]
            assert [item["info"]["run_name"] for item in found] == ["first"]
            assert found[0]["data"]["metrics"][0]["value"] == 0.5
            kept = http.get("/get-artifact", params={"run_id": run_id, "path": "config.yaml"})
            assert kept.text == "how it was trained"
            assert "<html" in http.get("/").text
        begun = psutil.Process(command.process.pid).children(recursive=True)
        command.interrupt()
        command.end()
    assert begun
    eventually(lambda: not any(process.is_running() for process in begun))
    assert f"http://127.0.0.1:{port}" in command.text


@contextmanager
def _ended(command: Started) -> Iterator[Started]:
    """Ask it to end also when the test fails: killed, it would leave its own children behind."""
    try:
        yield command
    finally:
        command.process.terminate()
        command.end()


def _client(port: int) -> httpx2.Client:
    return httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20)


def _answers(http: httpx2.Client) -> bool:
    try:
        return http.get("/health").status_code == 200
    except httpx2.TransportError:
        return False


# wandb sync


def test_offline_runs_are_uploaded_in_the_order_in_which_they_began(
    run: Run,
    tmp_path: Path,
    server: str,
    uploads: Callable[[], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("20260201_000000-a", "20260101_000000-z", "20260201_000001-a"):
        _offline_run(tmp_path, name)
    _offline_run(tmp_path, "20260115_000000-done", synced=True)
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    document = run("wandb", "sync", "--json").document
    names = [f"offline-run-{name}" for name in
             ("20260101_000000-z", "20260201_000000-a", "20260201_000001-a")]  # fmt: skip
    assert document == {"synced": names, "left": [], "being_written": []}
    called = uploads()
    assert called["words"] == ["-I", WORKER, "wandb", "sync", *(f"wandb/{name}" for name in names)]
    assert called["environment"]["WANDB_BASE_URL"] == server
    assert "WANDB_MODE" not in called["environment"]
    assert run("wandb", "sync").out == "there is nothing to upload\n"


def test_what_was_not_uploaded_is_told(
    run: Run,
    tmp_path: Path,
    server: str,
    uploads: Callable[[], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("20260101_000000-a", "20260101_000000-refused"):
        _offline_run(tmp_path, name)
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    result = run("wandb", "sync")
    failed(result, "not uploaded: offline-run-20260101_000000-refused")
    assert "0000-a" not in result.err
    assert uploads()


def test_a_dry_run_needs_no_key_and_uploads_nothing(
    run: Run, tmp_path: Path, uploads: Callable[[], dict[str, Any]]
) -> None:
    _offline_run(tmp_path, "20260101_000000-a")
    result = run("wandb", "sync", "--dry-run")
    assert (result.code, result.out) == (0, "would upload offline-run-20260101_000000-a\n")
    assert not uploads()


def test_without_a_key_nothing_is_tried(
    run: Run, tmp_path: Path, server: str, uploads: Callable[[], dict[str, Any]]
) -> None:
    _offline_run(tmp_path, "20260101_000000-a")
    host = server.removeprefix("http://")
    (tmp_path / ".netrc").write_text(f"machine other login user password {'k' * 40}\n")
    failed(run("wandb", "sync"), f"no API key for {host}", f"machine {host} login user password")
    assert not uploads()
    (tmp_path / ".netrc").write_text(f"machine {host} login user password {'k' * 40}\n")
    assert run("wandb", "sync").code == 0
    assert uploads()


def test_a_server_that_is_away_is_said_at_once(
    run: Run,
    tmp_path: Path,
    uploads: Callable[[], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _offline_run(tmp_path, "20260101_000000-a")
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    address = f"http://127.0.0.1:{_free_port()}"
    monkeypatch.setenv("TRAINING_CLUSTER_TRACKING__WANDB_BASE_URL", address)
    failed(run("wandb", "sync"), f"{address} cannot be reached")
    assert not uploads()


_RUN = """
import sys, wandb
run = wandb.init(project="lab", mode="offline", dir=sys.argv[1], reinit="create_new")
run.log({"train/loss": 0.5})
print("READY", flush=True)
sys.stdin.readline()
run.finish()
print("DONE", flush=True)
sys.stdin.readline()
"""


@pytest.mark.trackers
def test_a_run_that_is_still_being_written_is_left_for_later(
    run: Run, real: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "state" / "wandb"
    folder.mkdir(parents=True)
    with subprocess.Popen(
        [real, "-I", "-c", _RUN, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, bufsize=1, env={**os.environ, "WANDB_SILENT": "true"},
    ) as recorder:  # fmt: skip
        assert recorder.stdin is not None
        assert recorder.stdout is not None
        assert any(line == "READY\n" for line in recorder.stdout)
        document = run("wandb", "sync", "--dry-run", "--json").document
        assert document["would_sync"] == []
        assert len(document["being_written"]) == 1
        recorder.stdin.write("finish\n")
        eventually(lambda: run("wandb", "sync", "--dry-run", "--json").document["would_sync"])
        recorder.stdin.write("end\n")
