"""Retries and estimates: pure functions, held to their words."""

from __future__ import annotations

import pytest

from training_cluster.domain.job import Outcome, Progress
from training_cluster.scheduling import estimate, retry


def test_retries_double_their_delay_up_to_ten_minutes():
    delays = [retry.decide(Outcome.KILLED, n, 10).delay_seconds for n in range(1, 11)]
    assert delays[:4] == [10, 20, 40, 80]
    assert delays[-1] == retry.LONGEST_DELAY_SECONDS


def test_retries_end_when_they_are_used_up():
    assert retry.decide(Outcome.KILLED, 2, 2) is not None
    assert retry.decide(Outcome.KILLED, 3, 2) is None


@pytest.mark.parametrize(
    "outcome", [Outcome.COMPLETED, Outcome.CANCELLED, Outcome.DATASET_INVALID, Outcome.TIMED_OUT]
)
def test_what_would_end_the_same_way_is_not_tried_again(outcome):
    assert retry.decide(outcome, 1, 10) is None


def test_a_running_job_is_estimated_by_its_own_progress():
    progress = Progress(25, 100)
    assert estimate.remaining_seconds(progress, 50.0, None) == pytest.approx(150.0)


def test_the_trainers_own_estimate_wins():
    progress = Progress(25, 100, remaining_seconds=7.0)
    assert estimate.remaining_seconds(progress, 50.0, 1000.0) == 7.0


def test_without_anything_to_go_by_there_is_no_estimate():
    assert estimate.remaining_seconds(None, 5.0, None) is None
    assert estimate.typical_seconds([]) is None


def test_queued_jobs_follow_one_another_through_the_devices():
    assert estimate.start_delays([0.0, 30.0], [1, 1, 1], 100.0) == [0.0, 30.0, 100.0]


def test_a_wide_job_waits_for_all_its_devices():
    assert estimate.start_delays([5.0, 30.0], [2, 1], 100.0) == [30.0, 130.0]


def test_a_job_wider_than_the_machine_has_no_estimate():
    assert estimate.start_delays([0.0], [2, 1], 10.0) == [None, 0.0]
