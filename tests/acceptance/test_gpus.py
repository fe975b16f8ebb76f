"""Four simulated GPUs behind the real pynvml, one of them in somebody else's use."""

from __future__ import annotations

import json
import subprocess
import sys
import time

from tests.daemon_process import eventually, running_daemon, trainer


def test_ten_jobs_never_share_a_device_nor_touch_a_foreign_one(tmp_path, record, fake_nvml):
    fake_nvml.gpus(4, total_gib=80)
    foreign = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
    fake_nvml.process(gpu=1, pid=foreign.pid, mib=9000)
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("recording", record, 0.3, 0),
        "TRAINING_CLUSTER_DEVICES__KIND": "auto",
        **fake_nvml.environment(),
    }
    try:
        with running_daemon(tmp_path / "state", environment) as daemon:
            devices = {d["index"]: d for d in daemon.client.get("/devices").json()["devices"]}
            assert devices[1]["standing"] == "busy"
            assert str(foreign.pid) in devices[1]["reason"]
            jobs = [daemon.submit(gpus=1 + n % 2) for n in range(10)]
            done = {job["job_id"]: daemon.wait_for(job["job_id"]) for job in jobs}
    finally:
        foreign.kill()
        foreign.wait()
    uuid_of = {index: device["uuid"] for index, device in devices.items()}
    launched = [json.loads(line) for line in (record / "launches").read_text().splitlines()]
    assert not (record / "conflicts").exists()
    assert len(launched) == 10
    for launch in launched:
        job = done[launch["attempt"][0]]
        seen = [int(index) for index in launch["devices"].split(",")]
        assert [uuid_of[index] for index in seen] == job["attempts"][0]["devices"]
        assert len(seen) == job["config"]["gpus"]
        assert 1 not in seen
        assert launch["order"] == "PCI_BUS_ID"
        assert (launch["master_port"] is None) == (len(seen) == 1)


def test_a_job_waits_for_a_busy_gpu_and_starts_when_it_is_given_back(tmp_path, record, fake_nvml):
    fake_nvml.gpus(1, total_gib=24)
    foreign = subprocess.Popen(["sleep", "120"])
    fake_nvml.process(gpu=0, pid=foreign.pid, mib=642)
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("recording", record, 0, 0),
        "TRAINING_CLUSTER_DEVICES__KIND": "auto",
        "TRAINING_CLUSTER_DEVICES__POLL_SECONDS": "0.1",
        **fake_nvml.environment(),
    }
    try:
        with running_daemon(tmp_path / "state", environment) as daemon:
            job = daemon.submit()
            assert job["status"] == "queued"
            assert "sleep" in job["wait_reason"]["message"], "names who is in the way"
            foreign.kill()
            foreign.wait()
            fake_nvml.no_processes()
            assert daemon.wait_for(job["job_id"])["status"] == "completed"
    finally:
        foreign.kill()


def test_a_lost_gpu_stops_no_other(tmp_path, record, fake_nvml):
    fake_nvml.gpus(2, total_gib=24)
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("recording", record, 0, 0),
        "TRAINING_CLUSTER_DEVICES__KIND": "auto",
        "TRAINING_CLUSTER_DEVICES__POLL_SECONDS": "0.1",
        **fake_nvml.environment(),
    }
    with running_daemon(tmp_path / "state", environment) as daemon:
        fake_nvml.lose(0)
        eventually(
            lambda: daemon.client.get("/devices").json()["devices"][0]["standing"] == "faulty"
        )
        for _ in range(3):
            done = daemon.wait_for(daemon.submit()["job_id"])
            assert done["attempts"][0]["devices"] == [fake_nvml.uuid(1)]


def test_a_hanging_driver_slows_no_request_and_starts_no_job(tmp_path, record, fake_nvml):
    fake_nvml.gpus(1, total_gib=24)
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("recording", record, 0, 0),
        "TRAINING_CLUSTER_DEVICES__KIND": "auto",
        "TRAINING_CLUSTER_DEVICES__POLL_SECONDS": "0.1",
        "TRAINING_CLUSTER_DEVICES__DEADLINE_SECONDS": "0.5",
        "TRAINING_CLUSTER_DEVICES__HEALTHY_SECONDS": "0.5",
        **fake_nvml.environment(),
    }
    with running_daemon(tmp_path / "state", environment) as daemon:
        fake_nvml.delay("*", 3)
        eventually(
            lambda: daemon.client.get("/devices").json()["devices"][0]["standing"] == "faulty"
        )
        took = []
        for _ in range(3):  # what else this machine does only adds
            began = time.monotonic()
            job = daemon.submit()
            took.append(time.monotonic() - began)
        assert min(took) < 1.0
        assert job["status"] == "queued"
        assert "did not answer" in job["wait_reason"]["message"]
        fake_nvml.heal()
        assert daemon.wait_for(job["job_id"], seconds=30)["status"] == "completed"


def test_a_held_device_gets_nothing_new(tmp_path, record, fake_nvml):
    fake_nvml.gpus(2, total_gib=24)
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("recording", record, 0, 0),
        "TRAINING_CLUSTER_DEVICES__KIND": "auto",
        **fake_nvml.environment(),
    }
    with running_daemon(tmp_path / "state", environment) as daemon:
        hold = daemon.client.put("/devices/0/hold", json={"reason": "debugging"})
        assert hold.json()["device"] == fake_nvml.uuid(0)
        for _ in range(3):
            done = daemon.wait_for(daemon.submit()["job_id"])
            assert done["attempts"][0]["devices"] == [fake_nvml.uuid(1)]
        waiting = daemon.submit(gpus=2)
        assert "held by" in waiting["wait_reason"]["message"]
        daemon.client.delete("/devices/0/hold")
        assert daemon.wait_for(waiting["job_id"])["status"] == "completed"


def test_more_gpus_than_the_machine_has_is_refused(tmp_path, fake_nvml):
    fake_nvml.gpus(2, total_gib=24)
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": "/bin/true",
        "TRAINING_CLUSTER_DEVICES__KIND": "auto",
        **fake_nvml.environment(),
    }
    with running_daemon(tmp_path / "state", environment) as daemon:
        for fields in ({"gpus": 3}, {"min_gpu_memory": 40}):
            response = daemon.client.post("/train", json=fields)
            assert response.status_code == 422
            assert response.json()["code"] == "impossible_request"


def test_a_gpu_that_was_lost_is_released_by_a_person_and_a_restart_does_not_do_it(
    tmp_path, record, fake_nvml
):
    fake_nvml.gpus(1, total_gib=24)
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("recording", record, 0, 0),
        "TRAINING_CLUSTER_DEVICES__KIND": "auto",
        "TRAINING_CLUSTER_DEVICES__POLL_SECONDS": "0.1",
        "TRAINING_CLUSTER_DEVICES__HEALTHY_SECONDS": "0",
        **fake_nvml.environment(),
    }

    def device(daemon):
        return daemon.client.get("/devices").json()["devices"][0]

    with running_daemon(tmp_path / "state", environment) as daemon:
        fake_nvml.lose(0)
        eventually(lambda: device(daemon)["standing"] == "faulty")
        job = daemon.submit()["job_id"]
        daemon.kill()
        fake_nvml.heal()
        daemon.start()
        eventually(lambda: device(daemon)["standing"] == "quarantined")
        time.sleep(0.5)
        shown = device(daemon)
        assert (shown["quarantine"]["cause"], shown["quarantine"]["by"]) == ("lost", None)
        assert daemon.job(job)["status"] == "queued"
        assert "quarantined" in daemon.job(job)["wait_reason"]["message"]
        (check,) = [
            each
            for each in daemon.client.get("/readyz").json()["checks"]
            if each["name"] == "devices"
        ]
        assert "1 in quarantine" in check["detail"]
        assert "lost" in cli(daemon, "doctor", "--quick")
        assert "back in the queue" in cli(daemon, "gpus", "release", "0")
        assert daemon.wait_for(job)["status"] == "completed"
        assert "quarantined" in cli(daemon, "gpus", "quarantine", "0", "-r", "its fan is loud")
        assert "its fan is loud" in device(daemon)["reason"]


def cli(daemon, *words: str) -> str:
    """What the command line says; doctors find other things wrong, too."""
    url = f"http://127.0.0.1:{daemon.port}"
    environment = {**daemon.environment, "TRAINING_CLUSTER_URL": url, "COLUMNS": "500"}
    command = [sys.executable, "-m", "training_cluster", *words]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    ).stdout


def test_an_admin_waves_a_stale_process_through(tmp_path, record, fake_nvml):
    fake_nvml.gpus(1, total_gib=24)
    fake_nvml.hidden_memory(0, 642)
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("recording", record, 0, 0),
        "TRAINING_CLUSTER_DEVICES__KIND": "auto",
        **fake_nvml.environment(),
    }
    with running_daemon(tmp_path / "state", environment) as daemon:
        job = daemon.submit()
        assert "642 MiB in use" in job["wait_reason"]["message"]
        body = {"memory_mib": 700, "reason": "a display server"}
        assert daemon.client.put("/devices/0/tolerance", json=body).status_code == 200
        assert daemon.wait_for(job["job_id"])["status"] == "completed"
        assert daemon.client.delete("/devices/0/tolerance").json()["released"]
        assert daemon.client.get("/devices").json()["devices"][0]["standing"] == "busy"
