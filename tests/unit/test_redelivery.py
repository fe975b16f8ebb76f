"""The schedule of tries at a receiver, as a table and as promises over everything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training_cluster.domain.webhook import DeliveryState
from training_cluster.ports import Receipt
from training_cluster.scheduling.redelivery import MOST_TRIES, Redelivery, decide

NOW = 1_795_000_000.0
DAY = 86_400.0
MINUTE = 60.0
HOUR = 3600.0

WAITS = [5, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR]

FAILED = Receipt(500, "answered 500")

receipts = st.builds(
    Receipt,
    status=st.none() | st.integers(100, 599),
    error=st.none() | st.just("why"),
    retry_after_seconds=st.none() | st.floats(0, 1e12),
)
tries = st.integers(1, 20)
jitters = st.floats(0, 1)


@pytest.mark.parametrize(("made", "wait"), list(enumerate(WAITS, 1)))
def test_each_failed_try_is_followed_by_the_next_after_its_wait(made, wait):
    assert decide(made, FAILED, NOW, 0.0) == Redelivery(DeliveryState.PENDING, NOW + wait)
    assert decide(made, FAILED, NOW, 1.0).next_at == pytest.approx(NOW + 1.1 * wait)


def test_the_tenth_failure_is_the_last():
    assert MOST_TRIES == 10
    assert decide(10, FAILED, NOW, 0.0) == Redelivery(DeliveryState.FAILED)


@pytest.mark.parametrize("status", [200, 201, 204, 299])
@pytest.mark.parametrize("made", [1, 10])
def test_2xx_is_delivered(status, made):
    assert decide(made, Receipt(status), NOW, 0.5) == Redelivery(DeliveryState.DELIVERED)


@pytest.mark.parametrize("status", [None, 100, 199, 300, 302, 400, 404, 429, 500])
def test_everything_else_is_tried_again(status):
    assert decide(1, Receipt(status, "why"), NOW, 0.0).state is DeliveryState.PENDING


def test_slack_answering_200_without_ok_is_tried_again():
    receipt = Receipt(200, "Slack did not answer ok")
    assert decide(1, receipt, NOW, 0.0).state is DeliveryState.PENDING


@pytest.mark.parametrize("made", [1, 5, 10])
def test_410_ends_the_delivery_and_disables_the_receiver(made):
    redelivery = decide(made, Receipt(410, "answered 410"), NOW, 0.0)
    assert redelivery.state is DeliveryState.DROPPED
    assert redelivery.next_at is None
    assert "410" in str(redelivery.disable_reason)


@pytest.mark.parametrize(
    ("made", "asked", "wait"),
    [(1, 120.0, 120.0), (1, 2.0, 5.0), (2, 10.0, 300.0), (1, 0.0, 5.0), (1, 10 * DAY, DAY)],
)
def test_retry_after_counts_when_it_is_longer_and_up_to_a_day(made, asked, wait):
    assert decide(made, Receipt(429, "why", asked), NOW, 0.0).next_at == NOW + wait


@given(tries, receipts, jitters)
def test_a_next_try_is_never_early_never_past_the_limit_and_only_while_pending(
    made, receipt, jitter
):
    redelivery = decide(made, receipt, NOW, jitter)
    assert (redelivery.next_at is not None) == (redelivery.state is DeliveryState.PENDING)
    if redelivery.next_at is not None:
        asked = min(receipt.retry_after_seconds or 0.0, DAY)
        wait = redelivery.next_at - NOW
        assert wait >= max(WAITS[made - 1], asked) - 1e-6
        assert wait <= 1.1 * DAY + 1e-6


@given(receipts, st.lists(jitters, min_size=MOST_TRIES, max_size=MOST_TRIES))
def test_every_delivery_ends(receipt, jitter):
    states = [decide(made, receipt, NOW, jitter[made - 1]).state for made in range(1, 11)]
    assert states[-1] is not DeliveryState.PENDING


@given(tries, receipts, jitters)
def test_only_410_disables_a_receiver(made, receipt, jitter):
    disabled = decide(made, receipt, NOW, jitter).disable_reason is not None
    assert disabled == (receipt.status == 410)
