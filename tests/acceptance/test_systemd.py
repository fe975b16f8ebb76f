"""Under a real systemd the service runs in its sandbox, and a stop or restart touches no job."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon_process import DaemonProcess, eventually, trainer
from tests.private_systemd import HOME, PrivateSystemd, private_systemd, why_not

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]


@pytest.fixture(scope="module")
def systemd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateSystemd]:
    with private_systemd(tmp_path_factory.mktemp("systemd") / "log") as systemd:
        yield systemd


def test_nothing_of_it_reaches_the_machine(systemd: PrivateSystemd):
    for folder in ("/etc", "/tmp", "/var/lib", "/usr/lib/systemd/system"):
        name = f"{folder}/written-by-a-test-of-training-cluster"
        systemd.run("touch", name)
        assert not Path(name).exists()


class Service(DaemonProcess):
    """The daemon that systemd runs."""

    def __init__(self, systemd: PrivateSystemd, port: int) -> None:
        super().__init__(Path(HOME) / ".local/state/training-cluster")
        self.port = port
        self.client.base_url = f"http://127.0.0.1:{port}"
        self.systemd = systemd

    def processes(self) -> dict[int, str]:
        """Command lines of all in the service's control group, by pid."""
        said = self.systemd.run("systemctl", "status", "training-cluster", check=False)
        found = re.findall(r"[├└]─ *(\d+) (.*)", said)
        return {int(pid): line for pid, line in found}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture
def service(systemd: PrivateSystemd) -> Iterator[Service]:
    """An installed service whose jobs run until /tmp/release of the systemd is there."""
    port = free_port()
    settings = f"""
port = {port}
[devices]
kind = "cpu"
[tracking]
backends = []
[trainer]
command = {trainer("recording", HOME, 60, 7)}
"""
    systemd.run("sh", "-c", f"rm -rf {HOME}/release; cat >/run/settings.toml <<'X'\n{settings}\nX")
    systemd.training_cluster("service", "install", "--config", "/run/settings.toml")
    service = Service(systemd, port)
    yield service
    systemd.run("touch", f"{HOME}/release")
    systemd.training_cluster("service", "uninstall")
    assert "could not be found" in systemd.run(
        "systemctl", "status", "training-cluster", check=False
    )
    service.client.close()


def test_a_job_lives_on_over_stop_upgrade_and_start(service: Service):
    systemd = service.systemd
    job = service.submit()["job_id"]
    service.wait_for(job, "running")
    before = eventually(
        lambda: {p for p, line in service.processes().items() if "recording" in line}
    )
    daemon = systemd.property("MainPID")
    systemd.training_cluster("service", "install", "--config", "/run/settings.toml")
    assert systemd.property("MainPID") != daemon, "installing again restarts"
    assert service.job(job)["status"] == "running"
    systemd.run("systemctl", "stop", "training-cluster")
    assert systemd.property("Result") == "success"
    assert set(service.processes()) >= before, "no job was touched"
    systemd.run("systemctl", "start", "training-cluster")
    systemd.run("touch", f"{HOME}/release")
    done = service.wait_for(job, "failed")
    assert [attempt["exit_code"] for attempt in done["attempts"]] == [7], "adopted, its true end"


def test_a_daemon_that_is_killed_or_hangs_is_started_again(service: Service):
    systemd = service.systemd
    for number in ("KILL", "STOP"):
        if number == "STOP":
            drop_in = "/run/systemd/system/training-cluster.service.d"
            systemd.run("mkdir", "-p", drop_in)
            systemd.run("sh", "-c", f"printf '[Service]\nWatchdogSec=2\n' >{drop_in}/quick.conf")
            systemd.run("systemctl", "daemon-reload")
            systemd.run("systemctl", "restart", "training-cluster")
        before = systemd.property("MainPID")
        systemd.run("kill", f"-{number}", before)
        eventually(lambda before=before: systemd.property("MainPID") not in (before, "0"), 30)
        eventually(lambda: systemd.property("ActiveState") == "active", 30)
    assert service.client.get("/readyz").status_code == 200


def test_the_sandbox_is_on_and_lets_the_daemon_see_who_asks(service: Service):
    systemd = service.systemd
    pid = systemd.property("MainPID")
    status = systemd.run("cat", f"/proc/{pid}/status")
    assert re.search(r"^Uid:\s+64123", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
    assert re.search(r"^CapBnd:\s+0+$", status, re.MULTILINE)
    assert service.submit()["job_id"], "the kernel names the user of a local connection"
    said = json.loads(systemd.training_cluster("service", "status", "--json"))
    assert (said["user"], said["up_to_date"]) == ("training-cluster", True)


def test_a_trainer_in_the_sandbox_writes_where_it_must_and_nowhere_else(service: Service):
    systemd = service.systemd
    inside = ["nsenter", "-t", systemd.property("MainPID"), "-m", "--"]
    for folder in (HOME, "/tmp", "/var/tmp", "/dev/shm"):
        systemd.run(*inside, "sh", "-c", f"touch {folder}/written && rm {folder}/written")
    for folder in ("/etc", "/usr", "/opt", "/var/lib"):
        refused = systemd.run(*inside, "touch", f"{folder}/written", check=False)
        assert "Read-only file system" in refused


def test_the_driver_has_made_its_devices_before_the_sandbox_closes(service: Service):
    """The driver is not here: a program of its name writes down how it was called."""
    systemd = service.systemd
    listed = "/proc/driver/nvidia/gpus"
    systemd.run("mount", "-t", "tmpfs", "tmpfs", "/proc/driver")
    for number, minor in enumerate((0, 3)):
        systemd.run("mkdir", "-p", f"{listed}/{number}")
        said = f"printf 'Model: x\\nDevice Minor: \\t {minor}\\n' >{listed}/{number}/information"
        systemd.run("sh", "-c", said)
    program = "/usr/bin/nvidia-modprobe"
    script = '#!/bin/sh\necho "$(id -u) $*" >>/run/called'
    systemd.run("sh", "-c", f"printf '%s\\n' '{script}' >{program}; chmod 755 {program}")
    systemd.run("systemctl", "restart", "training-cluster")
    assert systemd.run("cat", "/run/called").splitlines() == ["0 -c 0 -u", "0 -c 0", "0 -c 3"]
    assert service.client.get("/healthz").status_code == 200
