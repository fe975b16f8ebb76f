"""What a notification says: the event, and its job as it was at that event."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.factories import NOW, a_new_job
from training_cluster.domain.event import Event, EventType
from training_cluster.domain.job import (
    AttemptRef,
    JobState,
    Outcome,
    Progress,
    TrainingPoint,
    Verdict,
)
from training_cluster.domain.webhook import Delivery, DeliveryState, Webhook
from training_cluster.services import notification
from training_cluster.store import (
    attempts,
    deliveries,
    events,
    jobs,
    progress,
    tracker_runs,
    webhooks,
)
from training_cluster.store.database import Connection, Database, connect
from training_cluster.store.progress import Limits

BASE = "http://box.lab:23478"
HOOK = Webhook(id="wh_1", format="standard", url="https://x/***", user="alice", created_at=NOW)


@pytest.fixture
def connection(tmp_path: Path):
    database = Database(tmp_path / "queue.db")
    opened = connect(database.path)
    webhooks.insert(opened, HOOK)
    yield opened
    opened.close()
    database.close()


class Life:
    """A job that lives through everything, one event after the other."""

    def __init__(self, connection: Connection, folder: Path, **spec: object) -> None:
        self.c = connection
        self.folder = folder
        self.number = jobs.insert(connection, a_new_job(**spec))

    @property
    def job(self):
        return jobs.find(self.c, str(self.number))

    def start(self, now: float) -> None:
        where = str(self.folder / str(self.job.attempt_number + 1))
        Path(where).mkdir()
        claimed = attempts.claim(
            self.c, self.job, ("GPU-1", "GPU-2"), where, now, range(29500, 29510), ("mlflow",)
        )
        assert claimed is not None
        attempts.mark_running(self.c, claimed, now)

    def log(self, *losses: float, first_step: int = 1, now: float) -> None:
        points = [
            (TrainingPoint(Progress(step, 100), {"train/loss": loss}), now + step)
            for step, loss in enumerate(losses, first_step)
        ]
        ref = AttemptRef(self.job.id, self.job.attempt_number)
        progress.record(self.c, self.number, ref, points, (0, 0), Limits(0.0))

    def end(self, verdict: Verdict, now: float, retry_at: float | None = None) -> None:
        attempts.end(self.c, self.job, verdict, 1, now, retry_at)

    def told(self, kind: EventType) -> notification.Document:
        """The document of the last event of this type, made now."""
        event = events.page(self.c, 0, 1000, job_number=self.number, kind=kind)[-1]
        return _document(self.c, event)


def _document(connection: Connection, event: Event) -> notification.Document:
    found = connection.execute(
        "SELECT id FROM deliveries WHERE event_sequence = ?", (event.sequence,)
    ).fetchone()
    delivery = deliveries.find(connection, "wh_1", found["id"])
    facts = notification.gather(connection, delivery)
    return notification.document(facts, BASE, {"GPU-1": "H100"})


@pytest.fixture
def failed(connection, tmp_path) -> Life:
    """Retried once, then failed."""
    life = Life(connection, tmp_path, lora_name="tune", lora_version="2", max_retries=1)
    life.start(NOW + 10)
    life.log(3.0, 2.0, now=NOW + 10)
    life.end(Verdict(Outcome.KILLED, "signal 9", "look"), NOW + 20, NOW + 30)
    life.start(NOW + 40)
    life.log(2.5, 1.5, 1.0, now=NOW + 40)
    log = Path(attempts.of_job(connection, life.number)[-1].directory) / "trainer.log"
    log.write_bytes(b"\n".join(b"line %d" % n for n in range(40)) + b"\n 1%\r 50%\r\n\x1b[31mred\n")
    life.end(Verdict(Outcome.OUT_OF_MEMORY, "no memory left", "smaller batches"), NOW + 60)
    return life


def test_a_failure_says_why_and_shows_the_end_of_the_log(failed):
    document = failed.told(EventType.JOB_FAILED)
    job = document["data"]["job"]
    assert document["type"] == "job.failed"
    assert document["timestamp"] == "2026-11-18T11:07:40.000000Z"
    assert (job["status"], job["name"], job["attempt"]) == ("failed", "tune-2", 2)
    assert job["error"] == {
        "code": "out_of_memory",
        "message": "no memory left",
        "hint": "smaller batches",
    }
    assert job["log_tail"] == [*(f"line {n}" for n in range(27, 40)), " 50%", "red"]
    assert (job["devices"], job["device_names"]) == (["GPU-1", "GPU-2"], ["H100", "GPU-2"])
    assert (job["start_time"], job["end_time"]) == (NOW + 10, NOW + 60)
    assert job["duration_seconds"] == 50
    assert (job["first_loss"], job["final_loss"]) == (2.5, 1.0)
    assert job["progress"] == {"step": 3, "total_steps": 100, "percent": 3.0}
    assert job["result"] is None
    page = f"{BASE}/train/{failed.job.id}"
    assert job["links"] == {"self": page, "logs": f"{page}/logs"}


@pytest.mark.parametrize(
    ("kind", "status", "ended"),
    [
        (EventType.JOB_QUEUED, "queued", False),
        (EventType.JOB_STARTED, "running", False),
        (EventType.JOB_PROGRESS, "running", False),
        (EventType.JOB_RETRYING, "queued", False),
        (EventType.JOB_FAILED, "failed", True),
    ],
)
def test_what_came_later_is_not_in_an_earlier_event(failed, kind, status, ended):
    job = failed.told(kind)["data"]["job"]
    assert job["status"] == status
    assert (job["end_time"] is not None) is ended
    assert (job["error"] or {}).get("code") == {
        EventType.JOB_FAILED: "out_of_memory",
        EventType.JOB_RETRYING: "killed",
    }.get(kind)
    if kind in (EventType.JOB_QUEUED, EventType.JOB_STARTED):
        assert job["loss_curve"] == []
        assert job["final_loss"] is None
        assert job["duration_seconds"] is None
    if kind is EventType.JOB_QUEUED:
        assert (job["start_time"], job["attempt"], job["devices"]) == (None, None, [])


def test_progress_says_how_far_it_was(failed):
    job = failed.told(EventType.JOB_PROGRESS)["data"]["job"]
    assert job["progress"]["step"] == 3
    assert job["metrics"] == {"train/loss": 1.0}


def test_completion_names_the_model_and_the_runs(connection, tmp_path):
    life = Life(connection, tmp_path)
    life.start(NOW + 1)
    (run,) = tracker_runs.of_job(connection, life.number)
    tracker_runs.opened(connection, run, "r1", "https://mlflow.lab/r1", None, None)
    life.log(*(100.0 - n for n in range(99)), now=NOW + 1)
    life.end(Verdict(Outcome.COMPLETED, result={"path": "/models/x"}), NOW + 200)
    job = life.told(EventType.JOB_COMPLETED)["data"]["job"]
    assert job["result"] == {"path": "/models/x"}
    assert job["runs"] == [{"tracker": "mlflow", "url": "https://mlflow.lab/r1"}]
    assert len(job["loss_curve"]) == 40
    assert (job["loss_curve"][0], job["loss_curve"][-1]) == (100.0, 2.0)
    assert job["loss_curve"] == sorted(job["loss_curve"], reverse=True)
    assert (job["error"], job["log_tail"]) == (None, [])


def test_a_job_that_never_ran_is_cancelled_without_times(connection, tmp_path):
    life = Life(connection, tmp_path)
    jobs.end_unstarted(connection, life.job, JobState.CANCELLED, NOW + 5, None)
    job = life.told(EventType.JOB_CANCELLED)["data"]["job"]
    assert (job["start_time"], job["end_time"]) == (None, NOW + 5)
    assert job["duration_seconds"] is None
    assert job["devices"] == []


def test_a_device_in_quarantine_is_named_with_the_reason(connection):
    data = {"uuid": "GPU-1", "name": "H100", "reason": "the GPU is lost"}
    event = events.append(connection, NOW, EventType.DEVICE_QUARANTINED, data=data)
    document = _document(connection, event)
    assert document["data"] == {
        "webhook_id": "wh_1",
        "job_sequence": None,
        "device": {"uuid": "GPU-1", "name": "H100", "reason": "the GPU is lost"},
    }


def test_a_test_says_nothing_but_that(connection):
    event = events.append(connection, NOW, EventType.WEBHOOK_TEST, data={"webhook_id": "wh_1"})
    number = deliveries.add(connection, "wh_1", event)
    delivery = deliveries.find(connection, "wh_1", number)
    assert isinstance(delivery, Delivery)
    assert delivery.state is DeliveryState.PENDING
    document = notification.document(notification.gather(connection, delivery), BASE, {})
    assert document["type"] == "webhook.test"
    assert document["data"] == {"webhook_id": "wh_1", "job_sequence": None}


def test_a_log_that_is_not_there_or_not_text_spoils_nothing(connection, tmp_path):
    life = Life(connection, tmp_path)
    life.start(NOW)
    directory = Path(attempts.of_job(connection, life.number)[-1].directory)
    life.end(Verdict(Outcome.LOST, "gone"), NOW + 1)
    assert life.told(EventType.JOB_FAILED)["data"]["job"]["log_tail"] == []
    (directory / "trainer.log").write_bytes(b"\xff\xfe" * 100_000 + b"\n" + b"x" * 10_000)
    lines = life.told(EventType.JOB_FAILED)["data"]["job"]["log_tail"]
    assert len(lines) == 2
    assert all(len(line) <= 500 for line in lines)


@pytest.mark.parametrize(
    ("hook", "sees"),
    [
        (HOOK, True),
        (replace(HOOK, user="bob"), False),
        (replace(HOOK, user="root", sees_all=True), True),
    ],
    ids=["its owner's", "another user's", "an admin's"],
)
def test_what_a_job_said_is_told_to_its_owner_and_admins_only(connection, tmp_path, hook, sees):
    connection.execute("UPDATE webhooks SET user = ?, sees_all = ?", (hook.user, hook.sees_all))
    life = Life(connection, tmp_path)
    life.start(NOW + 1)
    (tmp_path / "1" / "trainer.log").write_text("canary in the log\n")
    life.end(Verdict(Outcome.TRAINER_ERROR, "canary in a traceback"), NOW + 2)
    document = life.told(EventType.JOB_FAILED)
    assert ("canary in a traceback" in json.dumps(document)) is sees
    assert ("canary in the log" in json.dumps(document)) is sees
    assert document["data"]["job"]["error"]["code"] == "trainer_error"
