"""The README's own lines, run as they stand: both ways to start, and the whole curl tour."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.daemon_process import ROOT, DaemonProcess, eventually, processes_of

PORT = 23478
TOUR = re.findall(r"<!-- tour -->\n```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
START = re.search(
    r"```bash\n(cd training_cluster/api\nuvicorn [^`]*)```", (ROOT / "README.md").read_text()
)


def port_is_free() -> bool:
    with contextlib.suppress(OSError), socket.create_server(("0.0.0.0", PORT)):
        return True
    return False


@pytest.fixture(params=["training-cluster serve", "uvicorn train_server:app"])
def documented_daemon(request, tmp_path: Path):
    """A daemon on the documented port, started by the documented line."""
    assert START is not None
    if not eventually(port_is_free, 10):
        pytest.fail(f"port {PORT} is in use: these tests start the daemon as documented")
    line = START[1] if "uvicorn" in request.param else request.param
    daemon = DaemonProcess(tmp_path / "state")
    environment = {
        **daemon.environment,
        "TRAINING_CLUSTER_STATE_DIR": str(daemon.state),
        "TRAINING_CLUSTER_TRAINER__COMMAND": "/bin/sh -c 'sleep 30'",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    with (tmp_path / "daemon.log").open("wb") as log:
        process = subprocess.Popen(
            ["/bin/bash", "-c", line],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    daemon.process = process
    daemon.client.base_url = f"http://127.0.0.1:{PORT}"
    try:
        eventually(daemon._answers, 20)
        yield daemon
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(15)
        daemon.client.close()
        for pid in processes_of(daemon.state):
            os.kill(pid, signal.SIGKILL)


def curl(line: str) -> tuple[int, object]:
    """Run a curl line as printed; returns the status and the parsed or raw body."""
    ran = subprocess.run(
        ["/bin/bash", "-c", line.replace("curl ", "curl -sS -w '\\n%{http_code}' ", 1)],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    body, _, status = ran.stdout.rpartition("\n")
    with contextlib.suppress(ValueError):
        return int(status), json.loads(body)
    return int(status), body


def test_every_curl_line_of_the_readme_works_as_printed(documented_daemon):
    lines = [line for block in TOUR for line in re.split(r"\n(?=curl )", block.strip())]
    assert len(lines) == 9
    answers = [curl(line) for line in lines]
    about, basic, full, reject, listed, one, logs, queue, unknown = answers
    assert about[1]["name"] == "training-cluster"
    assert (basic[0], basic[1]["status"]) == (200, "started")
    assert basic[1]["message"] == "Training job started"
    assert (full[0], full[1]["status"], full[1]["queue_position"]) == (200, "queued", 1)
    assert (reject[0], reject[1]["status"]) == (409, "rejected")
    assert [job["number"] for job in listed[1]["jobs"]] == [2, 1]
    assert one[1]["status"] in ("preparing", "running")
    assert one[1]["config"]["learning_rate"] == 0.00002
    assert isinstance(one[1]["start_time"], float)
    assert logs[0] == 200
    assert queue[1]["queue_length"] == 1
    assert (unknown[0], unknown[1]["code"]) == (404, "job_not_found")
