"""Making room over HTTP and on the command line: first said, then done, then visible."""

from __future__ import annotations

from tests.acceptance.upkeep import run_client


def prune(daemon, **body):
    return daemon.client.post("/prune", json={"older_than_days": 0, **body})


def test_logs_that_were_removed_are_gone_with_a_reason(quick_daemon):
    job = quick_daemon.submit()["job_id"]
    quick_daemon.wait_for(job)
    log = quick_daemon.attempt_dir(job) / "trainer.log"
    planned = prune(quick_daemon, kinds=["logs"]).json()
    assert planned["dry_run"] is True
    assert [item["path"] for item in planned["items"]] == [f"jobs/{job}/attempt-1/trainer.log"]
    assert log.exists()

    done = prune(quick_daemon, kinds=["logs"], dry_run=False).json()
    assert done["things"] == 1
    assert not log.exists()
    for address in (f"/train/{job}/logs", f"/train/{job}/logs/stream"):
        answer = quick_daemon.client.get(address)
        assert answer.status_code == 410
        assert answer.json()["code"] == "pruned"
        assert "to make room" in answer.json()["detail"]
    assert quick_daemon.job(job)["pruned"]["logs"]["at"] > 0
    assert "disk.pruned" in quick_daemon.client.get("/events", params={"limit": 1000}).text


def test_the_command_shows_first_and_removes_with_yes(quick_daemon):
    job = quick_daemon.submit()["job_id"]
    quick_daemon.wait_for(job)
    folder = quick_daemon.state / "jobs" / job
    shown = run_client(quick_daemon, "prune", "--jobs", "--older-than", "0d")
    assert f"jobs/{job}" in shown
    assert "--yes would free" in shown
    assert folder.exists()
    assert "nothing to remove" in run_client(quick_daemon, "prune", "--jobs")  # younger than 30d
    assert "freed" in run_client(quick_daemon, "prune", "--jobs", "--older-than", "0d", "--yes")
    assert not folder.exists()
    assert quick_daemon.client.get(f"/train/{job}").status_code == 404


def test_what_makes_no_sense_is_refused(quick_daemon):
    for body in ({"kinds": []}, {"kinds": ["models"]}, {"older_than_days": -1}, {"all": True}):
        assert quick_daemon.client.post("/prune", json=body).status_code == 422
