"""Pause, resume, retry and loss over HTTP, with a trainer that saves as the real one does."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import signal
from pathlib import Path
from typing import Any

from tests.acceptance.seen import logged_lines
from tests.daemon_process import (
    DaemonProcess,
    eventually,
    processes_of,
    running_daemon,
    trainer,
)

STEPS = 60


def saving(seconds: float = 0.02, every: int = 10, **settings: object) -> dict[str, str]:
    return {
        "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("saving", STEPS, seconds, every),
        **{f"TRAINING_CLUSTER_{name.upper()}": str(value) for name, value in settings.items()},
    }


def reaches_step(
    daemon: DaemonProcess, job: str, step: int, attempt: int = 1, seconds: float = 20
) -> None:
    """Wait until an attempt has written this step to its log."""
    log = daemon.attempt_dir(job, attempt) / "output" / "trainer_log.jsonl"
    eventually(lambda: log.exists() and f'"current_steps": {step},' in log.read_text(), seconds)


def move(daemon: DaemonProcess, job: str, what: str, **body: Any) -> dict[str, Any]:
    response = daemon.client.post(f"/train/{job}/{what}", json=body or None)
    assert response.status_code == 200, response.text
    return dict(response.json())


def kill_with_runner(directory: Path) -> None:
    """kill -9 of the runner first, then of its trainer, unless the daemon was faster."""
    pids = json.loads((directory / "pid.json").read_text())
    os.kill(pids["runner"]["pid"], signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pids["trainer"]["pid"], signal.SIGKILL)


def trainer_steps(daemon: DaemonProcess, job: str) -> list[int]:
    """The steps of all lines with a loss, as the API tells them."""
    return [line["step"] for line in logged_lines(daemon, job) if "train/loss" in line["values"]]


def csv_steps(daemon: DaemonProcess, job: str) -> list[int]:
    """The steps of all rows with a loss in the table."""
    answer = daemon.client.get(f"/train/{job}/metrics", headers={"Accept": "text/csv"})
    rows = csv.DictReader(answer.text.splitlines())
    return [int(row["step"]) for row in rows if row["train/loss"]]


def warnings(daemon: DaemonProcess, job: str) -> list[str]:
    found = daemon.client.get("/events", params={"job": job, "type": "job.warning"}).json()
    return [event["data"]["message"] for event in found["events"]]


def test_a_job_paused_twice_and_killed_once_has_every_step_exactly_once(tmp_path):
    with running_daemon(tmp_path / "state", saving()) as daemon:
        job = daemon.submit()["job_id"]
        for attempt, step in ((1, 7), (2, 22)):
            reaches_step(daemon, job, step, attempt)
            assert move(daemon, job, "pause")["status"] == "stopping"
            paused = daemon.wait_for(job, "paused")
            saved = paused["attempts"][-1]["checkpoint_step"]
            assert paused["progress"]["step"] == saved >= step
            assert paused["devices"] == []
            assert processes_of(daemon.attempt_dir(job, attempt)) == []
            assert move(daemon, job, "resume")["resumed_from_step"] == saved
        reaches_step(daemon, job, 43, 3)
        kill_with_runner(daemon.attempt_dir(job, 3))
        done = daemon.wait_for(job, "completed")
        outcomes = [attempt["outcome"] for attempt in done["attempts"]]
        assert outcomes == ["paused", "paused", "lost", "completed"]
        assert done["attempts"][3]["resumed_from_step"] == 40
        assert trainer_steps(daemon, job) == list(range(1, STEPS + 1))
        assert csv_steps(daemon, job) == list(range(1, STEPS + 1))
        assert done["progress"]["step"] == STEPS
        assert done["result"]["first_loss"] == 4.0
        assert Path(done["result"]["path"]) == daemon.attempt_dir(job, 4) / "output"


def test_elapsed_and_remaining_seconds_are_those_of_the_whole_job(tmp_path):
    with running_daemon(tmp_path / "state", saving(0.1)) as daemon:
        job = daemon.submit()["job_id"]
        reaches_step(daemon, job, 25)
        move(daemon, job, "pause")
        before = daemon.wait_for(job, "paused")["progress"]
        assert before["elapsed_seconds"] >= 2
        move(daemon, job, "resume")
        eventually(lambda: daemon.job(job)["progress"]["step"] >= before["step"] + 12)
        view = daemon.job(job)
        progress = view["progress"]
        assert progress["elapsed_seconds"] >= before["elapsed_seconds"] + 1
        left = (STEPS - progress["step"]) * 0.1
        assert left / 3 < progress["remaining_seconds"] <= 2 * left + 1
        assert 100 < view["metrics"]["train/throughput"] <= 1100, "100 tokens a step, 10 steps/s"
        daemon.client.delete(f"/train/{job}")


def test_a_job_that_is_paused_while_it_starts_is_paused_and_goes_on(tmp_path):
    with running_daemon(tmp_path / "state", saving(0)) as daemon:
        for _ in range(5):
            job = daemon.submit()["job_id"]
            assert move(daemon, job, "pause")["status"] in ("stopping", "paused")
            if daemon.wait_for(job, "paused", "completed")["status"] == "paused":
                move(daemon, job, "resume")
            done = daemon.wait_for(job, "completed")
            assert trainer_steps(daemon, job) == list(range(1, STEPS + 1)), done


def test_a_trainer_that_ignores_the_pause_is_killed_after_its_grace(tmp_path):
    settings = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("stubborn"),
        "TRAINING_CLUSTER_PAUSE_GRACE_SECONDS": "0.3",
        "TRAINING_CLUSTER_GRACE_SECONDS": "60",
    }
    with running_daemon(tmp_path / "state", settings) as daemon:
        job = daemon.submit()["job_id"]
        eventually(lambda: len(processes_of(daemon.attempt_dir(job))) >= 3)
        move(daemon, job, "pause")
        daemon.wait_for(job, "paused", seconds=10)
        assert processes_of(daemon.attempt_dir(job)) == []
        assert "nothing was saved" in warnings(daemon, job)[0]
        assert "from the start" in move(daemon, job, "resume")["message"]
        daemon.wait_for(job, "running")


def test_cancelling_a_job_that_is_saving_shortens_its_grace(tmp_path):
    settings = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("stubborn"),
        "TRAINING_CLUSTER_PAUSE_GRACE_SECONDS": "600",
        "TRAINING_CLUSTER_GRACE_SECONDS": "0.3",
    }
    with running_daemon(tmp_path / "state", settings) as daemon:
        job = daemon.submit()["job_id"]
        eventually(lambda: len(processes_of(daemon.attempt_dir(job))) >= 3)
        move(daemon, job, "pause")
        refused = daemon.client.post(f"/train/{job}/resume")
        assert (refused.status_code, refused.json()["code"]) == (409, "wrong_state")
        daemon.client.delete(f"/train/{job}")
        assert daemon.wait_for(job, "cancelled", seconds=10)["error"] is None
        assert processes_of(daemon.attempt_dir(job)) == []


def test_a_daemon_killed_in_the_middle_of_a_pause_leaves_a_paused_job(tmp_path):
    with running_daemon(tmp_path / "state", saving(0.3)) as daemon:
        job = daemon.submit()["job_id"]
        reaches_step(daemon, job, 1)
        move(daemon, job, "pause")
        daemon.kill()
        eventually(lambda: (daemon.attempt_dir(job) / "exit.json").exists())
        daemon.environment |= saving(0)
        daemon.start()
        paused = daemon.wait_for(job, "paused")
        assert move(daemon, job, "resume")["resumed_from_step"] == paused["progress"]["step"] >= 1
        daemon.wait_for(job, "completed")
        assert trainer_steps(daemon, job) == list(range(1, STEPS + 1))


def test_a_job_of_a_machine_that_was_restarted_goes_on_by_itself(tmp_path):
    """A reboot leaves no process and another boot id than the one in pid.json; no test can have
    one, so the processes are killed and the id is written anew, as the reboot would leave them."""
    with running_daemon(tmp_path / "state", saving(0.05)) as daemon:
        job = daemon.submit()["job_id"]
        reaches_step(daemon, job, 25)
        daemon.kill()
        directory = daemon.attempt_dir(job)
        kill_with_runner(directory)
        eventually(lambda: processes_of(directory) == [])
        pids = json.loads((directory / "pid.json").read_text())
        (directory / "pid.json").write_text(json.dumps({**pids, "boot_id": "of an earlier boot"}))
        daemon.start()
        daemon.wait_for(job, "completed")
        found = daemon.client.get("/events", params={"job": job, "type": "job.retrying"}).json()
        [event] = found["events"]
        assert event["data"]["message"] == "the machine was restarted while this was running"
        assert event["data"]["step"] == 20
        assert trainer_steps(daemon, job) == list(range(1, STEPS + 1))


def test_torn_and_incomplete_checkpoints_are_passed_over(tmp_path):
    with running_daemon(tmp_path / "state", saving(0.02, every=5)) as daemon:
        job = daemon.submit()["job_id"]
        reaches_step(daemon, job, 23)
        move(daemon, job, "pause")
        paused = daemon.wait_for(job, "paused")
        output = daemon.attempt_dir(job) / "output"
        saved = sorted(int(p.name.partition("-")[2]) for p in output.glob("checkpoint-*"))
        assert saved[-1] == paused["progress"]["step"]
        torn, incomplete, whole = (output / f"checkpoint-{n}" for n in saved[:-4:-1])
        weights = torn / "adapter_model.safetensors"
        os.truncate(weights, weights.stat().st_size - 1)
        (incomplete / "checkpoint-is-incomplete.txt").touch()
        move(daemon, job, "resume")
        done = daemon.wait_for(job, "completed")
        step = int(whole.name.partition("-")[2])
        assert done["attempts"][-1]["resumed_from_step"] == step
        assert f"goes on from step {step}" in warnings(daemon, job)[0]
        assert trainer_steps(daemon, job) == list(range(1, STEPS + 1))


def test_a_cancelled_job_is_tried_again_from_its_checkpoint_or_from_the_start(tmp_path):
    with running_daemon(tmp_path / "state", saving(0.05)) as daemon:
        job = daemon.submit()["job_id"]
        for attempt, (body, begins) in enumerate((({}, 12), ({"from": "start"}, 0)), 1):
            reaches_step(daemon, job, 12 * attempt, attempt)
            daemon.client.delete(f"/train/{job}")
            cancelled = daemon.wait_for(job, "cancelled")
            assert cancelled["end_time"] is not None
            again = move(daemon, job, "retry", **body)
            assert again["resumed_from_step"] >= begins
            assert bool(again["resumed_from_step"]) is bool(begins)
            view = daemon.wait_for(job, "running")
            assert (view["end_time"], view["error"], view["result"]) == (None, None, None)
        refused = daemon.client.post(f"/train/{job}/retry", json={"from": "somewhere"})
        assert refused.status_code == 422
        assert refused.json()["errors"][0]["field"] == "from"
