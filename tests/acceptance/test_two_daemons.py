"""Started twice in one go, as by `uvicorn --workers 2`: one schedules, the other says why not."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.daemon_process import DaemonProcess, eventually, processes_of, trainer


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_further_workers_of_uvicorn_never_schedule_and_say_so(tmp_path: Path, record: Path):
    daemon, port = DaemonProcess(tmp_path / "state"), free_port()
    environment = {
        **daemon.environment,
        "TRAINING_CLUSTER_STATE_DIR": str(daemon.state),
        "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("recording", record, 0, 0),
    }
    command = (sys.executable, "-m", "uvicorn", "training_cluster.api.train_server:app")
    output = tmp_path / "daemon.log"
    with output.open("wb") as log:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port), "--workers", "2"],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    daemon.process = process
    daemon.client.base_url = f"http://127.0.0.1:{port}"
    try:
        eventually(daemon._answers, 30)
        jobs = [daemon.submit()["job_id"] for _ in range(8)]
        for job in jobs:
            assert daemon.wait_for(job)["status"] == "completed"
        eventually(lambda: "another daemon schedules from" in output.read_text(), 30)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(15)
        daemon.client.close()
        for pid in processes_of(daemon.state):
            os.kill(pid, signal.SIGKILL)
    launched = [
        json.loads(line)["attempt"] for line in (record / "launches").read_text().splitlines()
    ]
    assert sorted(launched) == sorted([job, "attempt-1"] for job in jobs), "each exactly once"


def test_a_tunnel_s_port_in_use_ends_the_daemon_before_it_touches_jobs(tmp_path: Path):
    daemon = DaemonProcess(tmp_path / "state")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        refused = subprocess.run(
            [sys.executable, "-m", "training_cluster", "serve", "--port", "0"],
            env={
                **daemon.environment,
                "TRAINING_CLUSTER_STATE_DIR": str(daemon.state),
                "TRAINING_CLUSTER_TUNNEL": place,
            },
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert refused.returncode == 1
    assert f"cannot listen on {place}" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not daemon.state.exists()
