"""Submitting: what is acknowledged, started, queued, rejected, repeated."""

from __future__ import annotations

import concurrent.futures
import time

from tests.daemon_process import eventually, running_daemon, trainer


def test_a_job_starts_at_once_when_a_device_is_free(quick_daemon):
    answer = quick_daemon.submit(lora_name="first")
    assert answer["status"] == "started"
    assert answer["message"] == "Training job started"
    done = quick_daemon.wait_for(answer["job_id"])
    assert done["status"] == "completed"
    assert done["start_time"] <= done["end_time"]
    assert [attempt["outcome"] for attempt in done["attempts"]] == ["completed"]


def test_the_documented_defaults_are_filled_in(quick_daemon):
    job = quick_daemon.submit(learning_rate="2.0e-5")
    config = quick_daemon.job(job["job_id"])["config"]
    documented = {
        "model_name": "Qwen/Qwen2.5-1.5B-Instruct",
        "dataset_version": "v1.0",
        "template": "qwen",
        "cutoff_len": 2048,
        "max_samples": 1000,
        "batch_size": 1,
        "gradient_accumulation_steps": 2,
        "save_steps": 500,
        "learning_rate": 0.00002,
        "num_epochs": 3.0,
        "tracking_backend": "wandb",
        "webhook_url": None,
    }
    assert {key: config[key] for key in documented} == documented


def test_a_second_job_waits_and_says_why(held_daemon):
    first = held_daemon.submit()
    second = held_daemon.submit()
    assert (first["status"], second["status"]) == ("started", "queued")
    assert second["queue_position"] == 1
    assert second["wait_reason"]["code"] == "devices_in_use"
    assert f"leased by job {first['number']}" in second["wait_reason"]["message"]
    third = held_daemon.submit(priority=5)
    assert third["queue_position"] == 1, "priority goes first"
    assert held_daemon.job(second["job_id"])["queue_position"] == 2


def test_reject_stores_nothing_when_busy(held_daemon):
    held_daemon.submit()
    response = held_daemon.client.post("/train", params={"strategy": "reject"}, json={})
    assert response.status_code == 409
    assert response.json()["status"] == "rejected"
    assert int(response.headers["Retry-After"]) > 0
    assert len(held_daemon.client.get("/train").json()["jobs"]) == 1


def test_reject_starts_when_free_and_accept_means_queue(held_daemon):
    assert held_daemon.submit(strategy="reject")["status"] == "started"
    assert held_daemon.submit(strategy="accept")["status"] == "queued"


def test_only_one_of_many_rejecting_clients_gets_the_slot(held_daemon):
    def attempt(_: int) -> int:
        url = f"{held_daemon.client.base_url}/train?strategy=reject"
        return held_daemon.client.post(url, json={}).status_code

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        codes = sorted(pool.map(attempt, range(8)))
    assert codes == [200] + [409] * 7


def test_the_same_idempotency_key_makes_one_job(held_daemon):
    def post(body):
        return held_daemon.client.post("/train", json=body, headers={"Idempotency-Key": "k-1"})

    first, again, other = post({"lora_name": "a"}), post({"lora_name": "a"}), post({})
    assert again.json()["job_id"] == first.json()["job_id"]
    assert again.headers["Idempotency-Replayed"] == "true"
    assert other.status_code == 422
    assert other.json()["code"] == "idempotency_mismatch"


def test_a_job_waits_for_the_jobs_it_depends_on(quick_daemon):
    first = quick_daemon.submit()
    second = quick_daemon.submit(depends_on=[first["number"]])
    done = quick_daemon.wait_for(second["job_id"])
    assert done["start_time"] >= quick_daemon.job(first["job_id"])["end_time"]


def test_a_job_fails_when_one_it_depends_on_does_not_complete(held_daemon):
    first = held_daemon.submit()
    second = held_daemon.submit(depends_on=[first["job_id"]])
    assert second["wait_reason"]["code"] in ("dependency", "devices_in_use", "not_planned")
    held_daemon.client.delete(f"/train/{first['job_id']}")
    failed = held_daemon.wait_for(second["job_id"], "failed")
    assert failed["error"]["code"] == "dependency_failed"
    assert failed["error"]["hint"]


def test_a_retry_is_a_new_attempt_of_the_same_job(tmp_path, record):
    environment = {"TRAINING_CLUSTER_TRAINER__COMMAND": trainer("recording", record, 0, 3)}
    with running_daemon(tmp_path / "state", environment) as daemon:
        job = daemon.submit(max_retries=1)
        waiting = daemon.wait_for(job["job_id"], "queued")
        reason = eventually(lambda: daemon.job(job["job_id"])["wait_reason"])
        assert reason["code"] == "retry_delay"
        assert waiting["attempts"][0]["outcome"] == "trainer_error"
        done = daemon.wait_for(job["job_id"], "failed", seconds=20)
        assert [attempt["attempt"] for attempt in done["attempts"]] == [1, 2]
        assert done["error"]["code"] == "trainer_error"


def test_estimates_appear_once_there_is_history(tmp_path, record):
    environment = {"TRAINING_CLUSTER_TRAINER__COMMAND": trainer("recording", record, 0.3, 0)}
    with running_daemon(tmp_path / "state", environment) as daemon:
        daemon.wait_for(daemon.submit()["job_id"])
        daemon.submit()
        waiting = daemon.submit()
        assert time.time() - 1 < waiting["estimated_start"] < time.time() + 5
