"""Jobs of other kinds than train: the queue keeps all it promises for them, too, and they take no
device unless they are told to."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.daemon_process import (
    DaemonProcess,
    eventually,
    processes_of,
    running_daemon,
    trainer,
)
from tests.model_parts import put_model
from training_cluster.crash_points import VARIABLE

LONG = 600


def environment(record: Path, seconds: float = LONG, most: int = 2) -> dict[str, str]:
    return {
        "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("kinds", record, seconds),
        "TRAINING_CLUSTER_LIMITS__WITHOUT_DEVICE": str(most),
        "TRAINING_CLUSTER_GRACE_SECONDS": "5",
    }


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DaemonProcess, Path]]:
    """One device; exports run until `release` is there. Each test takes a model of its own."""
    folder = tmp_path_factory.mktemp("kinds")
    (folder / "record").mkdir()
    with running_daemon(folder / "state", environment(folder / "record")) as started:
        yield started, folder / "record"


@pytest.fixture
def record(shared: tuple[DaemonProcess, Path]) -> Path:
    """Where its trainer writes, and is not told to go on."""
    (shared[1] / "release").unlink(missing_ok=True)
    return shared[1]


@pytest.fixture
def daemon(shared: tuple[DaemonProcess, Path], record: Path) -> Iterator[DaemonProcess]:
    """The shared one, with nothing under way before and after."""
    yield shared[0]
    (record / "release").touch()
    eventually(lambda: _is_idle(shared[0]), 120)


def _is_idle(daemon: DaemonProcess) -> bool:
    queue = daemon.client.get("/queue").json()
    for device in queue["devices"]:
        daemon.client.delete(f"/devices/{device['uuid']}/hold")
    return not queue["running"] and not queue["queued"]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder for the trainer of a daemon of one's own."""
    folder = tmp_path / "record"
    folder.mkdir()
    return folder


def launches(record: Path) -> list[dict[str, Any]]:
    file = record / "launches"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


_names = (f"chat{number}" for number in count(1))


def adapter(daemon: DaemonProcess) -> str:
    """The key of a model that a training has left."""
    name = next(_names)
    job = daemon.wait_for(daemon.submit(lora_name=name)["job_id"], seconds=120)
    assert job["status"] == "completed", job["error"]
    return f"{name}@v1"


def bob(daemon: DaemonProcess) -> dict[str, str]:
    """The headers of somebody else who is no admin."""
    token = daemon.client.post("/tokens", json={"user": "bob"}).json()["token"]
    return {"Authorization": f"Bearer {token}", "X-Forwarded-For": "203.0.113.9"}


def merged_of(key: str) -> str:
    """What an export of this model is called."""
    return f"{key.partition('@')[0]}-merged"


def post(daemon: DaemonProcess, path: str, **body: Any) -> dict[str, Any]:
    response = daemon.client.post(path, json=body)
    assert response.status_code == 200, response.text
    return dict(response.json())


def test_an_export_takes_no_device_and_its_result_is_a_merged_model(daemon, record):
    key = adapter(daemon)
    device = daemon.client.get("/devices").json()["devices"][0]["uuid"]
    held = daemon.client.put(f"/devices/{device}/hold", json={"reason": "nobody may use it"})
    assert held.status_code == 200
    job = post(daemon, f"/models/{key}/export")
    assert job["status"] == "started"
    running = daemon.wait_for(job["job_id"], "running")
    assert running["devices"] == []
    waiting = daemon.submit()
    assert waiting["status"] == "queued"
    queue = daemon.client.get("/queue").json()
    assert [each["devices"] for each in queue["running"]] == [[]]
    (record / "release").touch()
    done = daemon.wait_for(job["job_id"])
    assert done["result"]["kind"] == "merged_model"
    merged = daemon.client.get(f"/models/{merged_of(key)}@v1").json()
    parent = daemon.client.get(f"/models/{key}").json()
    assert merged["kind"] == "merged"
    assert merged["parent_id"] == parent["model_id"]
    assert merged["dataset"] == parent["dataset"]
    assert merged["base_model"] == parent["base_model"]
    told = launches(record)[-1]
    assert told["devices"] == ""
    assert told["config"]["adapter_name_or_path"] == parent["path"]
    assert told["config"]["export_device"] == "cpu"
    again = daemon.client.post(f"/models/{merged_of(key)}/export", json={})
    assert (again.status_code, again.json()["errors"][0]["field"]) == (422, "model")


def test_only_so_many_jobs_without_a_device_run_and_the_others_say_why_they_wait(daemon, record):
    key = adapter(daemon)
    jobs = [post(daemon, f"/models/{key}/export", name=f"n{n}")["job_id"] for n in range(3)]
    for job in jobs[:2]:
        daemon.wait_for(job, "running")
    waiting = daemon.job(jobs[2])
    assert waiting["status"] == "queued"
    assert waiting["wait_reason"] == {
        "code": "slots_in_use",
        "message": "takes no device; the 2 jobs without a device that may run are running",
    }
    assert daemon.wait_for(daemon.submit(lora_name="other")["job_id"])["status"] == "completed"
    daemon.client.delete(f"/train/{jobs[0]}")
    daemon.wait_for(jobs[0], "cancelled")
    daemon.wait_for(jobs[2], "running")
    (record / "release").touch()
    for job in jobs[1:]:
        assert daemon.wait_for(job)["status"] == "completed"


def test_jobs_without_a_device_pass_by_those_that_wait_for_one(tmp_path, own):
    with running_daemon(tmp_path / "state", environment(own, 0)) as daemon:
        key = adapter(daemon)
        device = daemon.client.get("/devices").json()["devices"][0]["uuid"]
        daemon.client.put(f"/devices/{device}/hold", json={"reason": "nobody may use it"})
        waiting = [daemon.submit(priority=50)["job_id"] for _ in range(80)]
        job = post(daemon, f"/models/{key}/export")["job_id"]
        assert daemon.wait_for(job)["status"] == "completed"
        assert daemon.job(waiting[0])["status"] == "queued"


def test_an_export_may_take_a_device_and_then_waits_for_one(daemon, record):
    key = adapter(daemon)
    first = post(daemon, f"/models/{key}/export", needs_device=True)["job_id"]
    daemon.wait_for(first, "running")
    assert len(daemon.job(first)["devices"]) == 1
    second = post(daemon, f"/models/{key}/export", needs_device=True)
    assert second["wait_reason"]["code"] == "devices_in_use"
    (record / "release").touch()
    assert daemon.wait_for(second["job_id"])["status"] == "completed"
    found = daemon.client.get("/models", params={"name": merged_of(key)}).json()["models"]
    assert [model["version"] for model in found] == ["v2", "v1"]


def test_a_cancelled_export_leaves_no_process_and_no_model(daemon):
    key = adapter(daemon)
    job = post(daemon, f"/models/{key}/export")["job_id"]
    eventually(lambda: processes_of(daemon.attempt_dir(job)))
    daemon.client.delete(f"/train/{job}")
    assert daemon.wait_for(job, "cancelled")["error"] is None
    assert processes_of(daemon.attempt_dir(job)) == []
    assert daemon.client.get(f"/models/{merged_of(key)}").status_code == 404


def test_an_export_is_paused_resumed_and_begins_anew(daemon, record):
    key = adapter(daemon)
    job = post(daemon, f"/models/{key}/export")["job_id"]
    daemon.wait_for(job, "running")
    daemon.client.post(f"/train/{job}/pause")
    assert daemon.wait_for(job, "paused")["devices"] == []
    (record / "release").touch()
    assert daemon.client.post(f"/train/{job}/resume").json()["resumed_from_step"] == 0
    assert daemon.wait_for(job)["status"] == "completed"


def test_an_export_outlives_the_daemon_and_is_adopted(daemon, record):
    key = adapter(daemon)
    job = post(daemon, f"/models/{key}/export")["job_id"]
    eventually(lambda: job in [each["job"] for each in launches(record)])
    daemon.kill()
    daemon.start()
    daemon.wait_for(job, "running")
    (record / "release").touch()
    done = daemon.wait_for(job)
    assert (done["status"], len(done["attempts"])) == ("completed", 1)
    assert daemon.client.get(f"/models/{merged_of(key)}").status_code == 200


POINTS = ["end.before_commit"]
MORE = [
    *("submit.before_commit", "submit.after_commit", "claim.after_commit", "prepare.after_files"),
    *("start.before_runner", "start.after_runner", "running.after_commit", "end.told"),
    "end.after_commit",
]


@pytest.mark.parametrize(
    "point", [*POINTS, *(pytest.param(each, marks=pytest.mark.slow) for each in MORE)]
)
def test_wherever_the_daemon_dies_an_export_runs_once_and_leaves_one_model(tmp_path, own, point):
    with running_daemon(tmp_path / "state", environment(own, 0)) as daemon:
        key = adapter(daemon)
        daemon.stop()
        daemon.environment[VARIABLE] = point
        daemon.start()
        headers = {"Idempotency-Key": "once"}
        with contextlib.suppress(httpx2.TransportError):  # it may die before it can answer
            daemon.client.post(f"/models/{key}/export", json={}, headers=headers)
        eventually(lambda: daemon.process.poll() is not None, 60)
        daemon.environment[VARIABLE] = ""
        daemon.start()
        jobs = daemon.client.get("/train", params={"kind": "export"}).json()["jobs"]
        if not jobs:
            assert point == "submit.before_commit"
            jobs = [post(daemon, f"/models/{key}/export")]
        done = daemon.wait_for(jobs[0]["job_id"])
        assert (done["status"], len(done["attempts"])) == ("completed", 1)
        exports = [each for each in launches(own) if each["kind"] == "export"]
        assert len(exports) == 1
        merged = daemon.client.get("/models", params={"kind": "merged"}).json()["models"]
        assert len(merged) == 1


@pytest.mark.parametrize("point", ["model.deleted", "model.removed"])
def test_wherever_the_daemon_dies_no_half_deleted_model_is_left(tmp_path, own, point):
    with running_daemon(tmp_path / "state", environment(own, 0)) as daemon:
        doomed, kept = adapter(daemon), adapter(daemon)
        files = {key: place_of(daemon, key) for key in (doomed, kept)}
        daemon.stop()
        daemon.environment[VARIABLE] = point
        daemon.start()
        with pytest.raises(httpx2.TransportError):
            daemon.client.delete(f"/models/{doomed}")
        assert daemon.process.wait(60) == -9
        assert files[doomed].exists() is (point == "model.deleted")
        daemon.environment[VARIABLE] = ""
        daemon.start()
        listed = daemon.client.get("/models").json()["models"]
        assert [each["key"] for each in listed] == [kept]
        assert daemon.client.get(f"/models/{doomed}").json()["deleted_at"] is not None
        eventually(lambda: not files[doomed].exists(), 60)
        assert (files[kept] / "adapter_model.safetensors").is_file()


def place_of(daemon: DaemonProcess, key: str) -> Path:
    """Where a model's files lie."""
    job = daemon.client.get(f"/models/{key}").json()["job_id"]
    return daemon.state / "jobs" / job / "attempt-1" / "output"


def test_an_evaluation_asks_both_models_and_only_its_owner_reads_the_answers(daemon, record):
    (record / "release").touch()
    key = adapter(daemon)
    training = daemon.client.get(f"/models/{key}").json()["job_id"]
    none_yet = daemon.client.get(f"/train/{training}/evaluation").json()
    assert none_yet == {"job_id": None, "status": None, "answers": None}
    job = post(daemon, f"/models/{key}/evaluate", prompts=["Who are you?"])["job_id"]
    done = daemon.wait_for(job)
    assert done["result"]["kind"] == "evaluation"
    for each in (job, training):
        seen = daemon.client.get(f"/train/{each}/evaluation").json()
        assert seen["job_id"] == job
        (answered,) = seen["answers"]
        assert answered["input"] == "Who are you?"
        names = [said["model_name"] for said in answered["outputs"]]
        assert names == ["Qwen/Qwen2.5-1.5B-Instruct", key]
    far = bob(daemon)
    assert daemon.client.get(f"/train/{job}/evaluation", headers=far).status_code == 403
    refused = daemon.client.post(f"/models/{key}/evaluate", json={}, headers=far)
    assert refused.status_code == 403
    daemon.client.patch(f"/models/{key}", json={"is_public": True})
    assert daemon.client.post(f"/models/{key}/evaluate", json={}, headers=far).status_code == 200


def test_without_prompts_the_rows_of_the_dataset_are_asked(daemon, record):
    (record / "release").touch()
    key = adapter(daemon)
    job = post(daemon, f"/models/{key}/evaluate", samples=3)["job_id"]
    assert daemon.wait_for(job)["status"] == "completed"
    rows = launches(record)[-1]["config"]["rows"]
    assert rows["most"] == 3
    assert Path(rows["file"]).is_file()
    assert rows["columns"]["prompt"] == "instruction"


def test_what_leaves_nothing_has_failed(tmp_path):
    environment = {"TRAINING_CLUSTER_TRAINER__COMMAND": "/bin/true"}
    with running_daemon(tmp_path / "state", environment) as daemon:
        made = put_model(daemon.state, daemon.submit()["job_id"], "root", name="chat")
        failed = daemon.wait_for(post(daemon, f"/models/{made.key}/export")["job_id"], "failed")
        assert failed["error"]["code"] == "trainer_error"
        assert "did not leave" in failed["error"]["message"]


def test_a_training_starts_from_a_registered_model_by_any_of_its_names(daemon, record):
    (record / "release").touch()
    key = adapter(daemon)
    parent = daemon.client.get(f"/models/{key}").json()
    for name in (key.partition("@")[0], key, parent["model_id"]):
        job = daemon.wait_for(daemon.submit(model_name=name, lora_name="next")["job_id"])
        assert job["config"]["model_name"] == parent["base_model"]
        assert job["config"]["model_id"] == parent["model_id"]
        told = launches(record)[-1]["config"]
        assert told["adapter_name_or_path"] == parent["path"]
        assert told["model_name_or_path"] == parent["base_model"]
    child = daemon.client.get("/models/next@v3").json()
    assert child["parent_id"] == parent["model_id"]
    assert child["base_model"] == parent["base_model"]
    post(daemon, f"/models/{key}/export")
    merged = eventually(lambda: daemon.client.get(f"/models/{merged_of(key)}").json().get("path"))
    job = daemon.wait_for(daemon.submit(model_name=merged_of(key), lora_name="on")["job_id"])
    told = launches(record)[-1]["config"]
    assert told["model_name_or_path"] == merged
    assert "adapter_name_or_path" not in told
    refused = daemon.client.delete(f"/models/{merged_of(key)}")
    assert (refused.status_code, refused.json()["code"]) == (409, "model_in_use")
    assert "on@v1" in refused.json()["detail"]


def test_a_model_that_is_not_there_or_not_ones_own_cannot_be_started_from(daemon, record):
    (record / "release").touch()
    key = adapter(daemon)
    unknown = daemon.client.post("/train", json={"model_name": "no-such@v1"})
    assert (unknown.status_code, unknown.json()["code"]) == (422, "model_not_allowed")
    assert unknown.json()["errors"][0]["field"] == "model_name"
    path = daemon.client.get(f"/models/{key}").json()["path"]
    by_path = daemon.client.post("/train", json={"model_name": path})
    assert by_path.status_code == 422, "only under its name, which says whose it is"
    full = daemon.client.post("/train", json={"model_name": key, "finetuning_type": "full"})
    assert full.json()["errors"][0]["field"] == "model_name"
    far = bob(daemon)
    refused = daemon.client.post("/train", json={"model_name": key}, headers=far)
    assert refused.status_code == 403
    daemon.client.patch(f"/models/{key}", json={"is_public": True})
    allowed = daemon.client.post("/train", json={"model_name": key}, headers=far)
    assert allowed.status_code == 200
    daemon.wait_for(allowed.json()["job_id"])
    assert daemon.client.delete(f"/models/{key}").status_code == 200
    gone = daemon.client.post("/train", json={"model_name": key})
    assert (gone.status_code, gone.json()["code"]) == (422, "model_not_allowed")
    assert "deleted" in gone.json()["detail"]


def test_a_model_in_use_is_not_deleted_and_not_pruned(daemon):
    key = adapter(daemon)
    job = post(daemon, f"/models/{key}/export")["job_id"]
    daemon.wait_for(job, "running")
    refused = daemon.client.delete(f"/models/{key}")
    assert (refused.status_code, refused.json()["code"]) == (409, "model_in_use")
    body = {"kinds": ["results"], "older_than_days": 0, "dry_run": False}
    daemon.client.post("/prune", json=body)
    assert daemon.client.get(f"/models/{key}").json()["deleted_at"] is None
    daemon.client.delete(f"/train/{job}")
    daemon.wait_for(job, "cancelled")
    assert daemon.client.delete(f"/models/{key}").status_code == 200
