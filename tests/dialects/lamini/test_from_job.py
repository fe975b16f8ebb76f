"""Our jobs in Lamini's words, at each moment of their life."""

from __future__ import annotations

import json

import pytest

from tests.factories import ALICE, BOB, NOW, ROOT
from training_cluster.api.dialects.lamini import from_job
from training_cluster.domain.dialect import DialectRequest
from training_cluster.domain.job import Job, JobError, JobState, Progress
from training_cluster.domain.spec import JobSpec
from training_cluster.services.standings import Standing

# the page's and the SDK's; the OpenAPI document says QUEUED for SCHEDULED, and TIMED OUT, on which
# the SDK would poll for ever
SAID = {
    *("SCHEDULED", "CREATED", "LOADING DATA", "TRAINING MODEL", "EVALUATING MODEL"),
    *("SAVING MODEL", "COMPLETED", "PARTIALLY COMPLETED", "FAILED", "CANCELLED"),
}
ENDS_A_POLL = {"COMPLETED", "PARTIALLY COMPLETED", "FAILED", "CANCELLED"}


def a_job(state=JobState.QUEUED, **fields):
    told = {"id": "x", "number": 7, "user": "alice", "spec": JobSpec(), "priority": 0}
    return Job(**{**told, "state": state, "attempt_number": 0, "created_at": NOW, **fields})


def body(job, standing=None, by=ALICE, history=()):
    return from_job.body(job, standing or Standing(), by, history)


@pytest.mark.parametrize(
    ("state", "step", "said"),
    [
        (JobState.QUEUED, 0, "SCHEDULED"),
        (JobState.QUEUED, 40, "SCHEDULED"),
        (JobState.PREPARING, 0, "LOADING DATA"),
        (JobState.RUNNING, 0, "TRAINING MODEL"),
        (JobState.STOPPING, 0, "SAVING MODEL"),
        (JobState.PAUSED, 0, "CANCELLED"),
        (JobState.PAUSED, 40, "PARTIALLY COMPLETED"),
        (JobState.COMPLETED, 40, "COMPLETED"),
        (JobState.FAILED, 0, "FAILED"),
        (JobState.FAILED, 40, "FAILED"),
        (JobState.CANCELLED, 0, "CANCELLED"),
        (JobState.CANCELLED, 40, "PARTIALLY COMPLETED"),
    ],
)
def test_a_job_has_the_status_of_its_moment(state, step, said):
    assert from_job.status(a_job(state), Standing(step=step)) == said


def test_every_state_has_a_status_and_the_sdk_knows_which_are_the_last():
    assert set(from_job.STATUSES) == set(JobState)
    assert set(from_job.STATUSES.values()) <= SAID
    over = {JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED, JobState.PAUSED}
    for state in JobState:
        for step in (0, 40):
            said = from_job.status(a_job(state), Standing(step=step))
            assert (said in ENDS_A_POLL) == (state in over)


def test_a_training_that_has_done_every_step_is_saving_its_model():
    running = a_job(JobState.RUNNING, progress=Progress(99, 100))
    assert from_job.status(running, Standing()) == "TRAINING MODEL"
    running = a_job(JobState.RUNNING, progress=Progress(100, 100))
    assert from_job.status(running, Standing()) == "SAVING MODEL"


def test_our_timeout_has_failed():
    error = JobError("timed_out", "it ran longer than 60 s", "ask for more")
    said = body(a_job(JobState.FAILED, error=error))
    assert said["status"] == "FAILED"
    assert said["error"] == "timed_out: it ran longer than 60 s. ask for more"


def test_a_job_is_told_with_the_types_that_lamini_gives_them():
    data = {"dataset_id": "abc", "custom_model_name": "faq bot", "is_public": True}
    job = a_job(JobState.COMPLETED, request=DialectRequest("lamini", data), started_at=NOW + 1.5)
    said = body(job, Standing(resumes=2, model_name="faq-bot@v1"), history=[{"step": 1}])
    assert said == {
        "job_id": 7,
        "status": "COMPLETED",
        "start_time": "2026-11-18T11:06:41.500000",
        "model_name": "faq-bot@v1",
        "custom_model_name": "faq bot",
        "base_model_name": JobSpec().model_name,
        "is_public": True,
        "history": '[{"step":1}]',
        "resume_count": 2,
        "dataset_id": "abc",
        "error": None,
        "warnings": [],
    }


def test_a_job_of_another_dialect_is_told_too():
    spec = JobSpec(save_name="mine", dataset_version="v1.0")
    openai = DialectRequest("openai", {"dataset_id": "not lamini's", "is_public": True})
    for request in (None, openai):
        said = body(a_job(spec=spec, request=request))
        assert (said["custom_model_name"], said["dataset_id"]) == ("mine", "v1.0")
        assert said["is_public"] is False
        assert said["model_name"] is None


def test_what_a_job_said_when_it_failed_is_for_its_owner():
    error = JobError("trainer_error", "KeyError: secret", "look at the log")
    job = a_job(JobState.FAILED, error=error)
    assert "secret" in body(job)["error"]
    assert "secret" in body(job, by=ROOT)["error"]
    others = body(job, by=BOB)["error"]
    assert "secret" not in others
    assert others.startswith("trainer_error: ")


def test_history_is_a_text_of_what_was_measured_at_each_step():
    lines = [
        (1, {"train/loss": 4.5, "train/learning_rate": 1e-5, "train/epoch": 0.1, "x/y": 1.0}),
        (2, {"x/y": 2.0}),
        (3, {"eval/loss": 4.0}),
    ]
    history = from_job.points(lines)
    assert history == [
        {"step": 1, "loss": 4.5, "learning_rate": 1e-5, "epoch": 0.1},
        {"step": 3, "eval_loss": 4.0},
    ]
    assert json.loads(body(a_job(), history=history)["history"]) == history
    running = a_job(
        JobState.RUNNING, progress=Progress(5, 10, epoch=0.5), metrics={"train/loss": 2.0}
    )
    assert from_job.latest(running) == [{"step": 5, "loss": 2.0, "epoch": 0.5}]
    assert from_job.latest(a_job()) == []
