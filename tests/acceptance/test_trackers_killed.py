"""Daemon, workers and tracking server die at random moments: no point is lost, none is doubled,
and no training takes longer for it."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import statistics
import threading
import time
from pathlib import Path

import pytest

from tests.acceptance.seen import assert_kept, logged_lines
from tests.adapters.kept_runs import MlflowServer, WandbFiles
from tests.daemon_process import DaemonProcess, eventually, running_daemon, trainer

pytestmark = [pytest.mark.trackers, pytest.mark.timeout(600)]

STEPS, STEP_SECONDS = 30, 0.05


@pytest.mark.parametrize("count", [6, pytest.param(20, marks=pytest.mark.slow)])
def test_kills_at_random_moments_lose_and_double_no_point(tmp_path, tracker_python, capsys, count):
    server = MlflowServer(tmp_path, tracker_python)
    server.project = "training-cluster"
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("stepping", STEPS, STEP_SECONDS),
        "TRAINING_CLUSTER_CPU_SLOTS": "4",
        "TRAINING_CLUSTER_TRACKING__BACKENDS": "mlflow,wandb",
        "TRAINING_CLUSTER_TRACKING__ENVIRONMENT_DIR": str(tracker_python.parents[1]),
        "TRAINING_CLUSTER_TRACKING__MLFLOW_URI": server.uri,
        "TRAINING_CLUSTER_TRACKING__DEADLINE_SECONDS": "20",
    }
    try:
        with running_daemon(tmp_path / "state", environment) as daemon:
            alone = run_all(daemon, count, tracking_backend="none")
            jobs = []
            with dying(daemon, server):
                tracked = run_all(daemon, count, jobs, tracking_backend=["mlflow", "wandb"])
            for job in jobs:
                eventually(lambda job=job: is_told(daemon, job), 180, pause=0.3)
            check_every_point(daemon, server, tmp_path / "state", jobs)
    finally:
        server.stop()
    ratio = statistics.median(tracked) / statistics.median(alone)
    with capsys.disabled():
        print(f"\ntraining with dying trackers over training without: {ratio:.3f}")
    assert ratio < 1.5, "a training waited for a tracker"


def run_all(
    daemon: DaemonProcess, count: int, jobs: list[str] | None = None, **fields
) -> list[float]:
    """Run the jobs; returns how long each one's trainer took, in seconds."""
    names = [] if jobs is None else jobs
    for _ in range(count):
        eventually(lambda: submitted(daemon, names, fields), 60)
    for job in names:
        eventually(lambda job=job: has_ended(daemon, job), 120, pause=0.05)
    return [duration(daemon, job) for job in names]


def submitted(daemon: DaemonProcess, jobs: list[str], fields) -> bool:
    """Submit under a key of its own: a daemon that dies before it answers is asked again."""
    key = {"Idempotency-Key": f"{fields['tracking_backend']}-{len(jobs)}"}
    with contextlib.suppress(Exception):
        answer = daemon.client.post("/train", json=fields, headers=key)
        jobs.append(answer.json()["job_id"])
        return True
    return False


def has_ended(daemon: DaemonProcess, job: str) -> bool:
    with contextlib.suppress(Exception):
        return daemon.client.get(f"/train/{job}").json()["status"] == "completed"
    return False


def duration(daemon: DaemonProcess, job: str) -> float:
    record = json.loads((daemon.attempt_dir(job) / "exit.json").read_text())
    return float(record["duration_seconds"])


@contextlib.contextmanager
def dying(daemon: DaemonProcess, server: MlflowServer):
    """While the block runs, something dies every second or so and is started again."""
    chance, over = random.Random(11), threading.Event()

    def kill() -> None:
        while not over.wait(chance.uniform(0.3, 1.2)):
            victim = chance.choice(["daemon", "mlflow worker", "wandb worker", "server"])
            if victim == "daemon":
                daemon.kill()
                time.sleep(chance.uniform(0, 0.5))
                daemon.start()
            elif victim == "server":
                server.kill()
                time.sleep(chance.uniform(0, 1))
                server.start()
            else:
                kill_worker(daemon.state, victim.split()[0])

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield
    finally:
        over.set()
        killer.join()


def kill_worker(state: Path, tracker: str) -> None:
    """kill -9 a tracker's worker, and for W&B its core as well half of the time."""
    marker = f"TRAINING_CLUSTER_TRACKER={os.path.realpath(state / tracker)}/{tracker}".encode()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and marker in (entry / "environ").read_bytes():
                os.kill(int(entry.name), signal.SIGKILL)


def is_told(daemon: DaemonProcess, job: str) -> bool:
    runs = daemon.job(job)["runs"]
    return len(runs) == 2 and all(run["state"] == "ended" for run in runs)


def check_every_point(
    daemon: DaemonProcess, server: MlflowServer, state: Path, jobs: list[str]
) -> None:
    in_mlflow = {run["tags"]["job_id"]: run for run in server.document()["runs"]}
    assert len(in_mlflow) == len(server.document()["runs"]) == len(jobs), "a run each, none twice"
    kept_mlflow = {kept.raw[0]["tags"]["job_id"]: kept for kept in server.read()}
    kept_wandb = {kept.raw[0]["run_id"]: kept for kept in WandbFiles(
        state / "wandb", server.python).read()}  # fmt: skip
    for job in jobs:
        lines = logged_lines(daemon, job)
        steps = [line["step"] for line in lines if line["source"] == "trainer"]
        assert steps == list(range(1, STEPS + 1))
        assert_kept(kept_mlflow[job], lines)
        assert kept_mlflow[job].status == "completed"
        wandb = next(r for r in daemon.job(job)["runs"] if r["tracker"] == "wandb")
        assert_kept(kept_wandb[wandb["run_id"]], lines)
        assert kept_wandb[wandb["run_id"]].status == "completed"
