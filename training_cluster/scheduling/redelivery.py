"""Whether a notification that was tried is tried again, and when."""

from __future__ import annotations

from dataclasses import dataclass

from training_cluster.domain.webhook import DeliveryState
from training_cluster.ports import Receipt

_MINUTE = 60.0
_HOUR = 3600.0

# seconds from one try to the next; the first try is made at once
WAITS_SECONDS = (
    5.0,
    5 * _MINUTE,
    30 * _MINUTE,
    2 * _HOUR,
    5 * _HOUR,
    10 * _HOUR,
    14 * _HOUR,
    20 * _HOUR,
    24 * _HOUR,
)
MOST_TRIES = len(WAITS_SECONDS) + 1
LONGEST_RETRY_AFTER_SECONDS = 24 * _HOUR
JITTER = 0.1

_GONE = 410


@dataclass(frozen=True, slots=True)
class Redelivery:
    """What a delivery becomes by a try. `next_at` (Unix seconds) is set while it is pending;
    `disable_reason` is set when the receiver wants no more deliveries at all."""

    state: DeliveryState
    next_at: float | None = None
    disable_reason: str | None = None


def decide(tries: int, receipt: Receipt, now: float, jitter: float) -> Redelivery:
    """What follows from the `tries`-th try, which ended at `now` with `receipt`.

    `jitter` from 0 to 1 lengthens a wait by up to a tenth. An answer of 2xx that comes with an
    error counts as a failure."""
    if receipt.status is not None and 200 <= receipt.status < 300 and receipt.error is None:
        return Redelivery(DeliveryState.DELIVERED)
    if receipt.status == _GONE:
        return Redelivery(DeliveryState.DROPPED, disable_reason="the receiver answered 410 Gone")
    if tries >= MOST_TRIES:
        return Redelivery(DeliveryState.FAILED)
    asked = min(receipt.retry_after_seconds or 0.0, LONGEST_RETRY_AFTER_SECONDS)
    wait = max(WAITS_SECONDS[tries - 1], asked)
    return Redelivery(DeliveryState.PENDING, next_at=now + wait * (1.0 + JITTER * jitter))
