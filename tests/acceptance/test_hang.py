"""A real trainer that does nothing is noticed, shown and, by policy, stopped."""

from __future__ import annotations

from tests.daemon_process import eventually, processes_of, running_daemon, trainer


def test_a_trainer_that_does_nothing_is_shown_and_stopped_and_one_that_trains_is_not(tmp_path):
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("stubborn"),
        "TRAINING_CLUSTER_GRACE_SECONDS": "0.2",
        "TRAINING_CLUSTER_HANG__WARN_SECONDS": "1.5",
        "TRAINING_CLUSTER_HANG__STOP": "stop",
        "TRAINING_CLUSTER_HANG__STOP_SECONDS": "3",
    }
    with running_daemon(tmp_path / "state", environment) as daemon:
        job = daemon.submit()["job_id"]
        eventually(lambda: daemon.job(job)["warnings"], 30)
        assert "nothing has moved" in daemon.job(job)["warnings"][-1]
        ready = daemon.client.get("/readyz").json()
        (trainers,) = [check for check in ready["checks"] if check["name"] == "trainers"]
        assert (trainers["ok"], ready["status"]) == (False, "ready")
        failed = daemon.wait_for(job, "failed")
        assert failed["error"]["code"] == "hung"
        assert "log" in failed["error"]["hint"]
        assert processes_of(daemon.state) == []

        daemon.stop()
        daemon.environment["TRAINING_CLUSTER_TRAINER__COMMAND"] = trainer("stepping", 60, 0.1)
        daemon.start()
        done = daemon.wait_for(daemon.submit()["job_id"])
        assert (done["status"], done["warnings"]) == ("completed", [])
