"""What follows the end of an attempt: what it means, whether there is another one, and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from training_cluster.domain.job import EndedAttempt, Outcome, StopReason, Verdict

FIRST_DELAY_SECONDS = 10.0
LONGEST_DELAY_SECONDS = 600.0

# the same request would fail the same way, or somebody decided that it should end
_FINAL = frozenset(
    {
        Outcome.COMPLETED,
        Outcome.CANCELLED,
        Outcome.PAUSED,
        Outcome.DATASET_INVALID,
        Outcome.DEPENDENCY_FAILED,
        Outcome.TIMED_OUT,
        Outcome.LAUNCH_FAILED,
    }
)
_LOSSES = frozenset({Outcome.LOST, Outcome.INTERRUPTED})
_ASKED = {
    StopReason.CANCELLED: Outcome.CANCELLED,
    StopReason.PAUSED: Outcome.PAUSED,
    StopReason.PREEMPTED: Outcome.PREEMPTED,
}
_FORCED = frozenset({Outcome.LOST, Outcome.INTERRUPTED, Outcome.KILLED})
_MILD = frozenset({Outcome.PAUSED, Outcome.PREEMPTED})
_OUTWEIGHED = _MILD | {Outcome.HUNG}


class LostAttempts(StrEnum):
    """What becomes of a job whose attempt was lost through no fault of its own."""

    RESUME = "resume"  # it goes on from its last checkpoint
    FAIL = "fail"  # as after any other failure


@dataclass(frozen=True, slots=True)
class RecoveryPolicy:
    """After more than `most_losses` losses in a row without a new checkpoint a job fails: perhaps
    it is the job that brings the machine down."""

    lost_attempts: LostAttempts = LostAttempts.RESUME
    most_losses: int = 3


DEFAULT_POLICY = RecoveryPolicy()


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again, not before `delay_seconds` from now."""

    delay_seconds: float


def as_asked(verdict: Verdict, asked: StopReason | None) -> Verdict:
    """What an end means if somebody had asked for it: an attempt that was lost or killed on the
    way there has stopped all the same, and a cancellation outweighs a pause."""
    wanted = _ASKED.get(asked) if asked is not None else None
    gives_way = _FORCED | (_OUTWEIGHED if asked is StopReason.CANCELLED else frozenset())
    if wanted is None or verdict.outcome not in gives_way:
        return verdict
    return replace(verdict, outcome=wanted)


def decide(
    history: Sequence[EndedAttempt], max_retries: int, policy: RecoveryPolicy = DEFAULT_POLICY
) -> Retry | None:
    """What to do after the last of these attempts (oldest first) has ended.

    None: its outcome is the job's. Delays double from 10 s up to 10 min.
    """
    outcome = history[-1].outcome
    if outcome is Outcome.PREEMPTED:
        return Retry(0.0)
    if outcome in _LOSSES and policy.lost_attempts is LostAttempts.RESUME:
        losses = _losses_in_vain(history)
        return Retry(_delay(losses - 1)) if losses <= policy.most_losses else None
    failures = sum(_counts(attempt.outcome, policy) for attempt in history)
    if outcome in _FINAL or failures > max_retries:
        return None
    return Retry(_delay(failures))


def given_up_after(history: Sequence[EndedAttempt], policy: RecoveryPolicy) -> int:
    """After how many losses in vain a job is not tried again; 0 if that is not why."""
    by_policy = policy.lost_attempts is LostAttempts.RESUME and history[-1].outcome in _LOSSES
    losses = _losses_in_vain(history) if by_policy else 0
    return losses if losses > policy.most_losses else 0


def _losses_in_vain(history: Sequence[EndedAttempt]) -> int:
    """How many attempts were lost since the last one that left a new checkpoint, itself
    included."""
    losses = 0
    for attempt in reversed(history):
        losses += attempt.outcome in _LOSSES
        if attempt.advanced:
            break
    return losses


def _counts(outcome: Outcome, policy: RecoveryPolicy) -> bool:
    """Whether an outcome counts against a job's retries."""
    if outcome in _LOSSES:
        return policy.lost_attempts is LostAttempts.FAIL
    return outcome not in _MILD


def _delay(failures: int) -> float:
    if failures == 0:
        return 0.0
    return min(FIRST_DELAY_SECONDS * 2.0 ** (failures - 1), LONGEST_DELAY_SECONDS)
