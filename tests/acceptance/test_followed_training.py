"""A real training followed while it runs, and found again point for point wherever it was told."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.seen import assert_kept, logged_lines, trainer_lines
from tests.adapters.kept_runs import Kept, MlflowDatabase, MlflowServer, WandbFiles
from tests.daemon_process import DaemonProcess, eventually, running_daemon
from tests.real_training import for_real

pytestmark = [pytest.mark.trainer, pytest.mark.trackers, pytest.mark.timeout(600)]


@pytest.fixture
def environment(tiny_model: Path, tracker_python: Path) -> dict[str, str]:
    return {
        **for_real(tiny_model),
        "TRAINING_CLUSTER_TRACKING__BACKENDS": "mlflow,wandb",
        "TRAINING_CLUSTER_TRACKING__ENVIRONMENT_DIR": str(tracker_python.parents[1]),
        "TRAINING_CLUSTER_METRICS__TELEMETRY_SECONDS": "1",
    }


def submit(daemon: DaemonProcess, model: Path, **fields) -> str:
    request = {
        "model_name": str(model),
        "cutoff_len": 128,
        "max_samples": 64,
        "batch_size": 4,
        "gradient_accumulation_steps": 1,
        "learning_rate": 1e-2,
        "num_epochs": 4,
        "additional_target": "embed_tokens,lm_head",
        "lora_name": "followed",
        "lora_version": "1",
        **fields,
    }
    return str(daemon.submit(**request)["job_id"])


class Curl:
    """`curl -N` on a stream, as a person would have it running beside."""

    def __init__(self, daemon: DaemonProcess, path: str, into: Path) -> None:
        self.into = into
        url = f"http://127.0.0.1:{daemon.port}{path}"
        with into.open("wb") as out:
            self.process = subprocess.Popen(["curl", "-sN", "--noproxy", "*", url], stdout=out)

    def __enter__(self) -> Curl:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def ended(self) -> list[dict[str, str]]:
        """The events of the stream, once curl has ended by itself."""
        assert self.process.wait(60) == 0
        return [event(block) for block in self.into.read_text().split("\n\n") if block.strip()]


def event(block: str) -> dict[str, str]:
    """One server-sent event; several data lines are joined."""
    fields: dict[str, list[str]] = {}
    for line in block.split("\n"):
        name, _, value = line.partition(":")
        fields.setdefault(name, []).append(value.removeprefix(" "))
    return {name: "\n".join(values) for name, values in fields.items()}


def wait_until_told(daemon: DaemonProcess, job: str) -> None:
    def ended() -> bool:
        runs = daemon.job(job)["runs"]
        return len(runs) == 2 and all(run["state"] == "ended" for run in runs)

    eventually(ended, 120, pause=0.2)


def the_run(kept: list[Kept], job: str) -> Kept:
    [found] = [run for run in kept if job in json.dumps(run.raw)]
    return found


def test_a_training_is_followed_by_curl_and_kept_by_both_trackers(
    environment, tiny_model, tmp_path, tracker_python
):
    with running_daemon(tmp_path / "state", environment) as daemon:
        job = submit(daemon, tiny_model, tracking_backend=["mlflow", "wandb"])
        daemon.wait_for(job, "running", "preparing")
        with (
            Curl(daemon, f"/train/{job}/metrics/stream", tmp_path / "metrics.txt") as metrics,
            Curl(daemon, f"/train/{job}/logs/stream", tmp_path / "logs.txt") as logs,
        ):
            eventually(lambda: "train/loss" in metrics.into.read_text(), 120, pause=0.1)
            assert daemon.job(job)["status"] == "running", "the curve came while it ran"
            assert daemon.wait_for(job, seconds=240)["status"] == "completed"
            told, said = metrics.ended(), logs.ended()

        lines = logged_lines(daemon, job)
        streamed = [json.loads(e["data"]) for e in told if e.get("event") == "metrics"]
        assert streamed == lines
        assert json.loads(told[-1]["data"])["status"] == "completed"
        written = trainer_lines(daemon.attempt_dir(job) / "output" / "trainer_log.jsonl")
        logged = [line for line in lines if line["source"] == "trainer"]
        assert [line["step"] for line in logged] == [line["current_steps"] for line in written]
        assert [line["values"].get("train/loss") for line in logged] == [
            line.get("loss") for line in written
        ]
        assert any(line["source"] == "telemetry" for line in lines)
        text = "\n".join(e["data"] for e in said if e.get("event") == "log")
        assert "***** train metrics *****" in text
        assert "\x1b" not in text

        wait_until_told(daemon, job)
        store = MlflowDatabase(tmp_path / "state", tracker_python)
        store.project = "training-cluster"
        kept = the_run(store.read(), job)
        assert_kept(kept, lines)
        assert kept.status == "completed"
        assert kept.parameters["learning_rate"] == "0.01"
        assert {"config.yaml", "training_loss.png", "model_card.md"} <= set(kept.artifacts)
        [run] = store.document()["runs"]
        assert run["name"] == "followed-1"
        assert run["tags"]["dataset_version"] == "v1.0"
        assert len(run["tags"]["dataset_sha256"]) == 64

        offline = the_run(WandbFiles(tmp_path / "state" / "wandb", tracker_python).read(), job)
        assert_kept(offline, lines)
        assert offline.status == "completed"
        warnings = daemon.client.get("/events", params={"job": job, "type": "job.warning"}).json()
        assert "offline" in warnings["events"][0]["data"]["message"]


@pytest.fixture
def server(tmp_path: Path, tracker_python: Path) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path, tracker_python)
    server.project = "nightly"
    yield server
    server.stop()


@pytest.mark.slow
def test_a_training_is_kept_by_an_mlflow_server_with_its_model(
    environment, tiny_model, tmp_path, server
):
    environment |= {
        "TRAINING_CLUSTER_TRACKING__MLFLOW_URI": server.uri,
        "TRAINING_CLUSTER_TRACKING__UPLOAD_MODEL": "true",
    }
    with running_daemon(tmp_path / "state", environment) as daemon:
        chosen = {"experiment": "nightly", "run_name": "tonight", "tags": ["box-1"]}
        job = submit(daemon, tiny_model, tracking_backend="mlflow", tracking=chosen, num_epochs=2)
        assert daemon.wait_for(job, seconds=240)["status"] == "completed"
        eventually(lambda: daemon.job(job)["runs"][0]["state"] == "ended", 120, pause=0.2)
        kept = the_run(server.read(), job)
        assert_kept(kept, logged_lines(daemon, job))
        assert (kept.name, kept.status) == ("tonight", "completed")
        assert "model/adapter_model.safetensors" in kept.artifacts
        view = daemon.job(job)
        assert view["links"]["mlflow"] == view["runs"][0]["url"]
        assert view["links"]["mlflow"].startswith(f"{server.uri}/#/experiments/")
