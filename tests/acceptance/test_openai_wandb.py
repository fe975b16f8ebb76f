"""The W&B integration of OpenAI's API, with W&B itself: the run lies where the request says."""

from __future__ import annotations

import pytest

from tests.acceptance.seen import assert_kept, logged_lines
from tests.adapters.kept_runs import WandbFiles
from tests.daemon_process import eventually, running_daemon, trainer
from training_cluster.api.dialects.openai import names

JOBS = "/v1/fine_tuning/jobs"
PLACE = {"project": "support", "name": "third-try", "entity": "team", "tags": ["nightly", "a b"]}
SECRET = "sk-never-to-be-shown-0123456789abcdef"


def create(daemon, **wandb) -> dict:
    body = {
        "model": "owner/base",
        "training_file": "v1.0",
        "integrations": [{"type": "wandb", "wandb": {**PLACE, **wandb}}],
    }
    made = daemon.client.post(JOBS, json=body)
    assert made.status_code == 200, made.text
    return dict(made.json())


def ended(daemon, job) -> dict:
    def look():
        found = daemon.client.get(f"{JOBS}/{job['id']}").json()
        return found if found["status"] in ("succeeded", "failed") else None

    return dict(eventually(look, 120))


def warnings(daemon, job) -> list[str]:
    events = daemon.client.get(f"{JOBS}/{job['id']}/events", params={"limit": 100}).json()["data"]
    return [event["message"] for event in events if event["level"] == "warn"]


@pytest.mark.trackers
def test_a_run_of_w_and_b_lies_where_the_integration_says(tmp_path, tracker_python):
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("saving", 12, 0.05, 4),
        "TRAINING_CLUSTER_TRACKING__BACKENDS": "wandb",
        "TRAINING_CLUSTER_TRACKING__ENVIRONMENT_DIR": str(tracker_python.parents[1]),
    }
    with running_daemon(tmp_path / "state", environment) as daemon:
        job = create(daemon)
        assert job["integrations"] == [{"type": "wandb", "wandb": PLACE}]
        done = ended(daemon, job)
        assert done["status"] == "succeeded", done["error"]
        assert done["integrations"] == job["integrations"]
        native = names.native_job(job["id"])

        def is_told() -> bool:
            return [run["state"] for run in daemon.job(native)["runs"]] == ["ended"]

        eventually(is_told, 120, pause=0.2)
        place = WandbFiles(tmp_path / "state" / "wandb", tracker_python)
        [run] = place.documents()
        assert {name: run[name] for name in PLACE} == PLACE
        [kept] = place.read()
        assert_kept(kept, logged_lines(daemon, native))
        assert kept.status == "completed"
        losses = [value for _, _, value in sorted(kept.points["train/loss"])]
        assert losses == pytest.approx([4.0 / step for step in range(1, 13)])
        assert any("offline" in text for text in warnings(daemon, job))


def test_without_w_and_b_the_place_is_shown_and_a_warning_says_so(quick_daemon):
    job = create(quick_daemon, api_key=SECRET)
    assert job["integrations"] == [{"type": "wandb", "wandb": PLACE}]
    told = warnings(quick_daemon, job)
    assert any("wandb is not served here" in text for text in told)
    assert any("integrations.0.wandb.api_key" in text for text in told)
    answers = (f"{JOBS}/{job['id']}", f"{JOBS}/{job['id']}/events", "/events?limit=1000")
    native = f"/train/{names.native_job(job['id'])}"
    for path in (*answers, native):
        assert SECRET not in quick_daemon.client.get(path).text, path
    ended(quick_daemon, job)
    stored = [path.read_bytes() for path in quick_daemon.state.glob("queue.db*")]
    assert not any(SECRET.encode() in content for content in stored)
