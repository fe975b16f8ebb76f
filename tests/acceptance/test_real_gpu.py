"""With an NVIDIA GPU: the real driver, a real lease, a trainer that sees exactly its device."""

from __future__ import annotations

import json

import pytest

from tests.daemon_process import running_daemon, trainer
from training_cluster.adapters.nvml.guarded import GuardedNvml
from training_cluster.domain.device import DeviceKind

pytestmark = pytest.mark.gpu


def test_the_real_driver_is_read_in_full():
    inventory = GuardedNvml(10).read()
    assert inventory.fault is None
    for device in inventory.devices:
        assert device.fault is None
        assert device.kind in (DeviceKind.GPU, DeviceKind.MIG)
        assert device.uuid.startswith(("GPU-", "MIG-"))
        assert 0 <= device.used_memory_bytes < device.total_memory_bytes


def test_a_job_gets_a_real_gpu_and_its_trainer_sees_exactly_that(tmp_path, record):
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("recording", record, 0, 0),
        "TRAINING_CLUSTER_DEVICES__KIND": "nvml",
        "TRAINING_CLUSTER_DEVICES__BUSY_MEMORY_MIB": "4096",
    }
    with running_daemon(tmp_path / "state", environment) as daemon:
        done = daemon.wait_for(daemon.submit()["job_id"])
        devices = {d["uuid"]: d for d in daemon.client.get("/devices").json()["devices"]}
    launch = json.loads((record / "launches").read_text())
    (leased,) = done["attempts"][0]["devices"]
    assert launch["devices"] in (str(devices[leased]["index"]), leased)
    assert launch["order"] == "PCI_BUS_ID"
