"""The real `@vertesia/client` from a session to a trained model, by a trivial trainer and by the
real one."""

from __future__ import annotations

import pytest

from tests.daemon_process import running_daemon, trainer
from tests.real_training import for_real

pytestmark = [pytest.mark.clients, pytest.mark.timeout(600)]
HUB_MODEL = "Qwen/Qwen2.5-1.5B-Instruct"


def walk(client, daemon, model: str, *, end):
    """Run the script; `end` lets the first job come to its end. Returns what it told."""
    url = str(daemon.client.base_url)
    with client.start("vertesia_training.mjs", url, model=model, count=3) as telling:
        job = telling.until("started")["job"]
        daemon.wait_for(job["id"], "running", "completed", seconds=240)
        telling.say()
        telling.until("polled")
        end()
        another = telling.until("started another")["job"]
        daemon.wait_for(another["id"], "running", "completed", seconds=240)
        telling.say()
        return telling.finish()


def trained(story, model: str) -> None:
    """What the client saw until its first training had ended."""
    assert story.one("environments")["found"][0]["id"] == "local"
    made = [run["id"] for run in story.one("session")["made"]]
    assert story.one("session")["session"]["status"] == "created"
    assert story.one("session")["added"] == {"ok": True}
    assert story.one("session")["made"][1]["text"] == "a word about mail 1"
    assert story.one("found")["session"]["runs"] == made
    assert [run["id"] for run in story.one("runs")["found"]] == made[1:]
    assert story.one("run")["run"]["modelId"] == model
    listed, session = story.one("listed"), story.one("session")["session"]
    assert [each["id"] for each in listed["refs"]] == [session["id"]]
    assert listed["names"] == [{"id": session["id"], "name": "by the real client"}]
    assert [run["id"] for run in listed["runs"]] == made[::-1]

    assert story.one("built")["built"]["skipped"] == 0
    data = story.one("data")
    assert (data["status"], len(data["lines"])) == (200, 3)
    assert "a word about mail 2" in data["lines"][2]
    assert "/content?" in story.one("chosen")["chosen"]["dataset"]
    assert story.one("prepared")["session"]["status"] == "prepared"
    assert story.one("started")["job"]["status"] in ("pending", "running")
    assert story.one("polled")["job"]["id"] == story.one("started")["job"]["id"]
    assert story.one("ended")["job"]["status"] == "completed"
    assert story.one("completed")["session"]["status"] == "completed"


def sent(story) -> None:
    """What became of the files the client has sent."""
    for line in story.all("sent"):
        assert (line["status"], line["session"]["status"]) == (201, "prepared")
    datasets = [line["session"]["dataset"] for line in story.all("sent")]
    assert len(set(datasets)) == 2


def cancelled_and_refused(story) -> None:
    """What the client saw of the second training, and of what cannot be."""
    assert story.one("cancelled")["job"]["status"] in ("cancelled", "running")
    assert story.one("gone")["session"]["status"] == "cancelled"
    told = {
        "no session": (404, "nothing"),
        "no job": (404, "nothing"),
        "no model": (422, "gpt-4o"),
        "cancelled already": (409, "already"),
        "not executed": (422, "not executed"),
        "not known": (401, "tq_"),
    }
    for step, (status, word) in told.items():
        line = story.one(step)
        assert (line["kind"], line["status"]) == ("ServerError", status), line
        assert line["payload"]["status"] == status
        assert word in line["message"], line


def test_the_real_client_walks_from_a_session_to_its_end(vertesia_node, tmp_path, record):
    command = trainer("recording", record, 600, 0)
    environment = {"TRAINING_CLUSTER_TRAINER__COMMAND": command}
    with running_daemon(tmp_path / "state", environment) as daemon:

        def end() -> None:
            (record / "release").touch()
            daemon.wait_for(1, "completed", seconds=120)
            (record / "release").unlink()

        story = walk(vertesia_node, daemon, HUB_MODEL, end=end)
    assert story.one("polled")["job"]["status"] == "running"
    trained(story, HUB_MODEL)
    sent(story)
    cancelled_and_refused(story)


@pytest.mark.trainer
@pytest.mark.timeout(900)
def test_the_real_client_gets_a_model_from_the_real_trainer(vertesia_node, tmp_path, tiny_model):
    with running_daemon(tmp_path / "state", for_real(tiny_model)) as daemon:
        url = str(daemon.client.base_url)
        story = vertesia_node.run("vertesia_model.mjs", url, model=str(tiny_model), seconds=600)
        trained_one = story.one("ended")["job"]
        assert trained_one["status"] == "completed", trained_one
        found = daemon.client.get(f"/models/{trained_one['model']}").json()
        assert found["job_id"] == trained_one["id"]
        assert found["dataset"]["version"] == story.one("completed")["session"]["dataset"]
