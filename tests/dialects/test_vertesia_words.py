"""Vertesia's words: what a run may look like, what its parts become, and every state of a job."""

from __future__ import annotations

import json
import re
import shlex

import pytest
from pydantic import TypeAdapter, ValidationError

from tests.daemon_process import ROOT
from tests.factories import ALICE, BOB, NOW
from training_cluster.api.dialects.vertesia.from_job import JOB_STATUS, from_job, moment
from training_cluster.api.dialects.vertesia.requests import AddRequest, RunsRequest, SessionRequest
from training_cluster.api.dialects.vertesia.to_spec import to_spec
from training_cluster.domain.errors import InvalidRequest
from training_cluster.domain.job import Job, JobError, JobState, Progress
from training_cluster.domain.spec import JobSpec
from training_cluster.domain.training_session import SessionStatus, TrainingSession

ASKED = [{"role": "user", "content": "Is this spam?"}]
RUNS = TypeAdapter(RunsRequest)


def recorded(**said):
    return RUNS.validate_python(said).to_run("local")


def a_job(state: JobState, **fields) -> Job:
    return Job(
        id="0199a0b4-9c30-7e22-9a13-1d5c8b6e4f28",
        number=7,
        state=state,
        user="alice",
        spec=JobSpec(),
        priority=0,
        attempt_number=1,
        created_at=NOW,
        **fields,
    )


@pytest.mark.parametrize(
    ("said", "messages"),
    [
        ({"messages": ASKED}, ASKED),
        ({"prompt": ASKED}, ASKED),
        ({"prompt": "Is this spam?"}, ASKED),
        ({"data": "Is this spam?"}, ASKED),
        ({"data": {"mail": "ä"}}, [{"role": "user", "content": '{"mail": "ä"}'}]),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "Is this spam?"}]}
                ]
            },
            ASKED,
        ),
    ],
)
def test_what_was_asked_may_be_said_in_several_ways(said, messages):
    assert recorded(**said, output="no").messages == messages


@pytest.mark.parametrize(
    ("said", "output", "results"),
    [
        ({"output": "no"}, "no", [{"type": "text", "value": "no"}]),
        ({"result": "no"}, "no", [{"type": "text", "value": "no"}]),
        (
            {"result": {"spam": False}},
            '{"spam": false}',
            [{"type": "json", "value": {"spam": False}}],
        ),
        (
            {
                "result": [
                    {"type": "thoughts", "value": "hm"},
                    {"type": "text", "value": "no"},
                    {"type": "json", "value": [1]},
                ]
            },
            "no\n[1]",
            [{"type": "text", "value": "no"}, {"type": "json", "value": [1]}],
        ),
        ({"result": [1, 2]}, "[1, 2]", [{"type": "json", "value": [1, 2]}]),
    ],
)
def test_what_was_answered_may_be_said_in_several_ways(said, output, results):
    run = recorded(messages=ASKED, **said)
    assert run.output == output
    assert run.details["result"] == results


def test_an_answer_may_be_the_last_turn_of_the_conversation():
    run = recorded(messages=[*ASKED, {"role": "assistant", "content": "no"}])
    assert (run.messages, run.output) == (ASKED, "no")
    assert run.details["result"] == [{"type": "text", "value": "no"}]


def test_model_and_environment_are_found_where_their_clients_put_them():
    config = {"environment": "65f0c2", "model": "gpt-4o", "temperature": 0.2}
    asked = RUNS.validate_python({"messages": ASKED, "output": "no", "config": config})
    assert (asked.asked_environment, asked.to_run("x").model) == ("65f0c2", "gpt-4o")
    assert asked.to_run("x").details["config"] == config
    named = RUNS.validate_python(
        {"messages": ASKED, "output": "no", "modelId": "a/b", "config": config}
    )
    assert named.to_run("x").model == "a/b"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"interaction": "Classify", "output": "no"}, "what the model was asked"),
        ({"messages": [], "output": "no"}, "what the model was asked"),
        ({"interaction": "Classify", "data": {"mail": "x"}}, "not executed"),
        ({"messages": ASKED, "output": ""}, "not executed"),
        ({"messages": [{"role": "oracle", "content": "x"}], "output": "no"}, "role"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}], "output": "no"}, "text"),
    ],
)
def test_a_run_from_which_nothing_can_be_learnt_is_refused_with_the_reason(said, why):
    with pytest.raises(ValidationError, match=why):
        RUNS.validate_python(said)


def test_a_run_that_failed_needs_no_answer():
    run = recorded(messages=ASKED, status="failed")
    assert (run.status.value, run.output) == ("failed", None)


def test_what_means_nothing_here_is_named():
    run = recorded(messages=ASKED, output="no", stream=True, do_validate=False)
    assert [each.split("'")[1] for each in run.details["warnings"]] == ["stream", "do_validate"]
    session = SessionRequest.model_validate({"name": "a", "env": "x", "model": "b/c", "epochs": 3})
    assert session.to_session().warnings == ("'epochs' means nothing here and was left out",)


def test_every_state_of_a_job_has_a_word():
    assert set(JOB_STATUS) == set(JobState)
    assert {JOB_STATUS[state] for state in JobState} == {
        *("pending", "running", "completed", "failed", "cancelled")
    }


def test_the_error_of_a_job_is_for_its_owner():
    error = JobError("out_of_memory", "CUDA out of memory: my secret row", "use a smaller batch")
    job = a_job(JobState.FAILED, error=error, finished_at=NOW + 5)
    mine = from_job(job, ALICE)
    assert mine["details"] == (
        "out_of_memory: CUDA out of memory: my secret row. use a smaller batch"
    )
    assert (mine["status"], mine["updated_at"]) == ("failed", moment(NOW + 5))
    theirs = from_job(job, BOB)["details"]
    assert "secret" not in theirs
    assert "out_of_memory" in theirs


def test_a_running_job_says_how_far_it_is():
    job = a_job(JobState.RUNNING, progress=Progress(3, 10))
    assert from_job(job, ALICE)["details"] == "step 3 of 10"
    assert from_job(a_job(JobState.PAUSED), ALICE)["status"] == "pending"


def test_moments_are_iso_with_milliseconds():
    assert moment(1_795_000_000.25) == "2026-11-18T11:06:40.250Z"


def a_session(**fields) -> TrainingSession:
    return TrainingSession(
        id="x",
        number=1,
        user="alice",
        name="support answers",
        environment="local",
        model="a/b",
        status=SessionStatus.PREPARED,
        created_at=NOW,
        updated_at=NOW,
        updated_by="alice",
        **fields,
    )


def test_a_session_is_a_job_with_its_model_and_dataset_and_nothing_else():
    assert to_spec(a_session(), "support-answers@v1.0") == JobSpec(
        model_name="a/b", dataset_version="support-answers@v1.0", save_name="support answers"
    )


def test_native_fields_go_where_vertesia_has_no_words():
    said = {"num_epochs": 1, "overrides": {"warmup_ratio": 0.1}, "save_name": "mine"}
    body = {"name": "a", "env": "local", "model": "b/c", "training_cluster": said}
    options = SessionRequest.model_validate(body).to_session().options
    spec = to_spec(a_session(options=options), "d@v1.0")
    assert (spec.num_epochs, spec.overrides, spec.save_name) == (1, {"warmup_ratio": 0.1}, "mine")
    assert (spec.model_name, spec.dataset_version) == ("a/b", "d@v1.0")


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"num_epochs": 0}, "training_cluster.num_epochs"),
        ({"nothing": 1}, "training_cluster.nothing"),
        ({"model_name": "b/c"}, "training_cluster.model_name"),
        ({"webhook_url": "https://x.example"}, "training_cluster.webhook_url"),
        ({"overrides": {"report_to": "wandb"}}, "training_cluster.overrides.report_to"),
    ],
)
def test_native_fields_that_cannot_be_are_refused_by_name(said, field):
    body = {"name": "a", "env": "local", "model": "b/c", "training_cluster": said}
    with pytest.raises(InvalidRequest) as refusal:
        SessionRequest.model_validate(body).to_session()
    assert [problem.field for problem in refusal.value.problems] == [field]


def shown(language: str) -> list[str]:
    page = (ROOT / "docs" / "vertesia.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def test_the_requests_that_the_guide_shows_are_taken():
    bodies = []
    for command in shown("bash")[0].split("\n\n"):
        words = shlex.split(command.replace("\\\n", " "))
        assert words[0] == "curl"
        if "-d" in words:
            bodies.append(json.loads(words[words.index("-d") + 1]))
    session, runs, added = bodies
    SessionRequest.model_validate(session).to_session()
    RUNS.validate_python(runs)
    AddRequest.model_validate(added)
    SessionRequest.model_validate_json(shown("json")[0]).to_session()


def test_the_guide_has_every_status_with_its_states():
    page = (ROOT / "docs" / "vertesia.md").read_text()
    for status in SessionStatus:
        assert f"`{status.value}`" in page
    for word in ("pending", "running"):
        states = ", ".join(s.value for s in JobState if JOB_STATUS[s] == word)
        row = next(line for line in page.splitlines() if line.startswith(f"| `{word}` |"))
        assert sorted(row.split("|")[2].strip().split(", ")) == sorted(states.split(", "))
