"""The transition table, and the page in docs that explains it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from training_cluster.domain.errors import StaleTransition
from training_cluster.domain.job import (
    ACTIVE,
    FINISHED,
    TRANSITIONS,
    JobState,
    Outcome,
    check_transition,
)

PAGE = Path(__file__).parents[2] / "docs" / "states.md"


@pytest.mark.parametrize("before", list(JobState))
@pytest.mark.parametrize("after", list(JobState))
def test_only_declared_moves_are_legal(before, after):
    if after in TRANSITIONS[before]:
        check_transition("job", before, after)
    else:
        with pytest.raises(StaleTransition):
            check_transition("job", before, after)


def test_a_finished_job_can_only_be_tried_again_and_a_completed_one_not_even_that():
    assert {JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED} == FINISHED
    assert FINISHED.isdisjoint(ACTIVE)
    assert TRANSITIONS[JobState.COMPLETED] == frozenset()
    for state in FINISHED - {JobState.COMPLETED}:
        assert TRANSITIONS[state] == {JobState.QUEUED}


def rows_of(section: str) -> dict[str, str]:
    """First and second column of the table in one section of the page."""
    parts = PAGE.read_text().split("## How attempts end")
    text = parts[0] if section == "states" else parts[1]
    return dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", text, re.MULTILINE))


def test_the_page_shows_exactly_the_table():
    shown = {
        before: set(re.findall(r"`(\w+)`", after)) for before, after in rows_of("states").items()
    }
    assert shown == {
        before.value: {after.value for after in following}
        for before, following in TRANSITIONS.items()
    }


def test_the_page_explains_every_outcome():
    assert set(rows_of("outcomes")) == {outcome.value for outcome in Outcome}
