"""A trainer that crashes when its work is done: the model is kept, and the owner is told."""

from __future__ import annotations

from tests.daemon_process import running_daemon, trainer


def test_a_crash_at_the_exit_costs_no_model(tmp_path):
    environment = {"TRAINING_CLUSTER_TRAINER__COMMAND": trainer("aborting")}
    with running_daemon(tmp_path / "state", environment) as daemon:
        done = daemon.wait_for(daemon.submit()["job_id"], "completed")
        told = daemon.client.get("/events", params={"type": "job.warning"}).json()["events"]
        models = daemon.client.get("/models").json()["models"]
    assert done["error"] is None
    assert (done["attempts"][0]["outcome"], done["attempts"][0]["exit_code"]) == ("completed", -6)
    assert done["result"]["steps"] == 3
    [message] = [event["data"]["message"] for event in told]
    assert message == "everything was saved; then SIGABRT ended the trainer at its exit"
    assert [model["job_id"] for model in models] == [done["job_id"]]
