"""Retries and estimates: pure functions, held to their words."""

from __future__ import annotations

import pytest

from training_cluster.domain.job import EndedAttempt, Outcome, Progress, StopReason, Verdict
from training_cluster.scheduling import estimate, retry
from training_cluster.scheduling.retry import LostAttempts, RecoveryPolicy


def ended(*outcomes: Outcome | str) -> list[EndedAttempt]:
    """Attempts that ended so, one after the other; `+` behind a word: it left a new checkpoint."""
    return [EndedAttempt(Outcome(o.rstrip("+")), advanced=o.endswith("+")) for o in outcomes]


def decide(*outcomes: Outcome | str, retries: int = 0, **policy: object) -> float | None:
    """Seconds until the next attempt, None if there is none."""
    rules = RecoveryPolicy(**policy)  # type: ignore[arg-type]
    decision = retry.decide(ended(*outcomes), retries, rules)
    return None if decision is None else decision.delay_seconds


def test_retries_double_their_delay_up_to_ten_minutes():
    delays = [decide(*["killed"] * n, retries=10) for n in range(1, 11)]
    assert delays[:4] == [10, 20, 40, 80]
    assert delays[-1] == retry.LONGEST_DELAY_SECONDS


def test_retries_end_when_they_are_used_up():
    assert decide("killed", "killed", retries=2) is not None
    assert decide("killed", "killed", "killed", retries=2) is None


@pytest.mark.parametrize("loss", ["lost", "interrupted"])
def test_a_lost_attempt_goes_on_at_once_and_costs_no_retry(loss):
    assert decide(loss) == 0
    assert decide("killed", loss, "killed", retries=2) == 20, "two failures, not three"


def test_losses_in_a_row_wait_longer_and_longer_and_then_fail_the_job():
    assert [decide(*["lost"] * n) for n in range(1, 5)] == [0, 10, 20, None]


def test_a_new_checkpoint_between_losses_makes_them_count_anew():
    assert decide("lost", "lost", "lost", "lost+") == 0
    assert decide("lost+", "lost", "lost") == 20
    assert decide("lost+", "lost", "lost", "lost") is None


def test_pauses_and_preemptions_between_losses_hide_none_of_them():
    assert decide("lost", "paused", "lost", "preempted", "lost") == 20
    assert decide("lost", "paused", "lost", "preempted", "lost", "lost") is None


def test_by_policy_a_loss_is_a_failure_like_any_other():
    assert decide("lost", lost_attempts=LostAttempts.FAIL) is None
    assert decide("lost", retries=1, lost_attempts=LostAttempts.FAIL) == 10
    assert decide("killed", "lost", retries=1, lost_attempts=LostAttempts.FAIL) is None


def test_a_preempted_attempt_always_goes_on():
    assert decide(*["preempted"] * 20) == 0


@pytest.mark.parametrize("outcome", ["lost", "interrupted", "killed"])
@pytest.mark.parametrize("asked", [StopReason.CANCELLED, StopReason.PAUSED, StopReason.PREEMPTED])
def test_an_attempt_that_is_gone_has_stopped_as_it_was_asked_to(outcome, asked):
    assert retry.as_asked(Verdict(Outcome(outcome)), asked).outcome == asked.value


def test_a_cancellation_outweighs_a_pause_and_nothing_else_outweighs_the_truth():
    paused, failed = Verdict(Outcome.PAUSED), Verdict(Outcome.TRAINER_ERROR)
    assert retry.as_asked(paused, StopReason.CANCELLED).outcome is Outcome.CANCELLED
    assert retry.as_asked(failed, StopReason.PAUSED) == failed
    done = Verdict(Outcome.COMPLETED)
    assert retry.as_asked(done, StopReason.CANCELLED) == done
    assert retry.as_asked(Verdict(Outcome.LOST), None).outcome is Outcome.LOST


@pytest.mark.parametrize(
    "outcome", ["completed", "cancelled", "paused", "dataset_invalid", "timed_out", "launch_failed"]
)
def test_what_would_end_the_same_way_is_not_tried_again(outcome):
    assert decide(outcome, retries=10) is None


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
    assert estimate.start_delays([0.0], [0, 1], 10.0) == [None, 0.0], "takes none of them"
