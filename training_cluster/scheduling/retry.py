"""Whether a failed attempt is tried again, and after how long."""

from __future__ import annotations

from dataclasses import dataclass

from training_cluster.domain.job import Outcome

FIRST_DELAY_SECONDS = 10.0
LONGEST_DELAY_SECONDS = 600.0

# the same request would fail the same way, or somebody decided that it should end
_FINAL = frozenset(
    {
        Outcome.COMPLETED,
        Outcome.CANCELLED,
        Outcome.DATASET_INVALID,
        Outcome.DEPENDENCY_FAILED,
        Outcome.TIMED_OUT,
        Outcome.LAUNCH_FAILED,
    }
)


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again, not before `delay_seconds` from now."""

    delay_seconds: float


def decide(outcome: Outcome, failures: int, max_retries: int) -> Retry | None:
    """What to do after an attempt ended with `outcome` as the `failures`-th failure of its job.

    None: the outcome is the job's. Delays double from 10 s up to 10 min.
    """
    if outcome in _FINAL or failures > max_retries:
        return None
    return Retry(min(FIRST_DELAY_SECONDS * 2 ** (failures - 1), LONGEST_DELAY_SECONDS))
