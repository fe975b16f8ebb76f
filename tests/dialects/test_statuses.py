"""Every state of a job, in whatever circumstances, has the word that docs/dialects.md gives it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.dialects.page import Said, status_of_sessions, statuses
from tests.factories import NOW
from training_cluster.api.dialects.lamini import from_job as lamini
from training_cluster.api.dialects.openai import from_job as openai
from training_cluster.api.dialects.vertesia import from_job as vertesia
from training_cluster.domain.ids import new_job_id
from training_cluster.domain.job import FINISHED, Job, JobState, Progress
from training_cluster.domain.spec import JobSpec
from training_cluster.services.standings import Standing
from training_cluster.store.listed_trainings import STATUSES

# how the page puts it -> what is true of the job then
CIRCUMSTANCES: dict[str, dict[str, Any]] = {
    "": {},
    "its dataset is still being checked": {"checking": True},
    "in the answer that made it": {"new": True},
    "every step is done": {"progress": Progress(10, 10)},
    "with a checkpoint": {"step": 5},
    "without one": {},
    "without a checkpoint": {},
}


def a_job(state: str, progress: Progress | None = None) -> Job:
    """A job in a state, with what the database wants of it then."""
    return Job(
        id=new_job_id(NOW),
        number=7,
        state=JobState(state),
        user="alice",
        spec=JobSpec(),
        priority=0,
        attempt_number=1,
        created_at=NOW,
        finished_at=NOW + 60 if state in FINISHED else None,
        progress=progress,
    )


@pytest.mark.parametrize("said", statuses())
def test_a_job_has_the_status_of_the_table(said: Said):
    facts = dict(CIRCUMSTANCES[said.when])
    job = a_job(said.state, facts.get("progress"))
    assert openai.status(job, checking=facts.get("checking", False)) == said.openai
    standing = Standing(step=facts.get("step", 0))
    word = lamini.CREATED if facts.get("new") else lamini.status(job, standing)
    assert word == said.lamini
    assert vertesia.JOB_STATUS[job.state] == said.vertesia


def test_every_state_is_in_the_table():
    assert {said.state for said in statuses()} == set(JobState)


def test_the_session_of_a_job_has_the_status_of_the_table():
    told = {state: name for name, states in status_of_sessions().items() for state in states}
    assert {state.value: status.value for state, status in STATUSES.items()} == told
