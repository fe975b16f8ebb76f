"""Under a service manager the daemon says when it is ready, alive and ending: sd_notify(3).

The manager here is a socket that listens; tests/acceptance/test_systemd.py has the real one.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from pathlib import Path

import pytest

from tests.daemon_process import eventually, processes_of, running_daemon, trainer
from training_cluster.daemon.service_manager import ServiceManager


class Manager:
    """What a daemon has told."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.setblocking(False)
        self.told: list[str] = []

    def heard(self, state: str) -> int:
        """How often this was told."""
        try:
            while True:
                self.told += self._socket.recv(4096).decode().splitlines()
        except BlockingIOError:
            return self.told.count(state)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def address(tmp_path: Path) -> str:
    return str(tmp_path / "notify")


@pytest.fixture
def manager(address: str):
    manager = Manager(address)
    yield manager
    manager.close()


def test_a_daemon_says_when_it_schedules_lives_and_ends(tmp_path, record, manager, address):
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("recording", record, 60, 0),
        "TRAINING_CLUSTER_TRAINER__PASS_ENVIRONMENT": "NOTIFY_SOCKET,WATCHDOG_USEC",
        "NOTIFY_SOCKET": address,
        "WATCHDOG_USEC": "300000",
    }
    with running_daemon(tmp_path / "state", environment) as daemon:
        assert manager.heard("READY=1") == 1, "told before the first request is answered"
        assert f"STATUS=listening on port {daemon.port}" in manager.told
        job = daemon.submit()["job_id"]
        eventually(lambda: (record / "launches").exists())
        eventually(lambda: manager.heard("WATCHDOG=1") >= 3)
        for pid in processes_of(daemon.attempt_dir(job)):
            handed_on = Path(f"/proc/{pid}/environ").read_bytes()
            assert b"NOTIFY_SOCKET" not in handed_on, "a trainer could speak for the daemon"
        assert manager.heard("STOPPING=1") == 0
        daemon.stop()
        assert manager.heard("STOPPING=1") == 1
        (record / "release").touch()
        eventually(lambda: processes_of(daemon.state) == [])


async def test_an_event_loop_that_hangs_is_not_told_alive(manager, address):
    service = ServiceManager(address, watchdog_seconds=0.09)
    service.ready("well", lambda: True)
    await asyncio.sleep(0.2)
    before = manager.heard("WATCHDOG=1")
    time.sleep(0.4)  # the loop stands still
    assert before >= 3
    assert manager.heard("WATCHDOG=1") == before
    await service.close()
    await service.close()


async def test_a_daemon_that_no_longer_schedules_is_not_told_alive(manager, address):
    service = ServiceManager(address, watchdog_seconds=0.03)
    service.ready("well", lambda: False)
    await asyncio.sleep(0.2)
    await service.close()
    assert (manager.heard("READY=1"), manager.heard("WATCHDOG=1")) == (1, 0)


async def test_the_address_may_be_abstract():
    name = f"training-cluster-test-{os.getpid()}"
    manager = Manager(f"\0{name}")
    ServiceManager(f"@{name}").stopping()
    assert manager.heard("STOPPING=1") == 1
    manager.close()


async def test_without_a_manager_or_with_one_that_is_gone_nothing_happens(address):
    for nobody in (ServiceManager(None, 0.01), ServiceManager(address)):
        nobody.ready("well", lambda: True)
        nobody.stopping()
        await nobody.close()


def test_what_names_the_manager_is_taken_out_of_the_environment(address, manager):
    environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "5", "WATCHDOG_PID": "1", "HOME": "/"}
    ServiceManager.of(environment).stopping()
    assert environment == {"HOME": "/"}
    assert manager.heard("STOPPING=1") == 1
