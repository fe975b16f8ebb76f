"""Durations learned from facts: scheduling latency and idle gaps."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from training_cluster.domain.event import Event, EventType
from training_cluster.domain.metric import LineSource, MetricLine
from training_cluster.services.histogram import Distribution, Histogram
from training_cluster.services.observations import Observations


def an_event(
    time: float, kind: EventType, job: int | None = None, attempt: int | None = 1, **data: object
) -> Event:
    job_id = None if job is None else f"job-{job}"
    return Event(int(time * 1000), time, kind, job_id, job, attempt, data)


def starting(time: float, job: int, *devices: str, ready_at: float, attempt: int = 1) -> Event:
    kind = EventType.JOB_STARTING
    return an_event(time, kind, job, attempt, devices=devices, ready_at=ready_at)


def started(time: float, job: int, attempt: int = 1) -> Event:
    return an_event(time, EventType.JOB_STARTED, job, attempt)


def ended(time: float, job: int, *devices: str, kind: EventType = EventType.JOB_COMPLETED) -> Event:
    return an_event(time, kind, job, devices=list(devices))


def told(*events: Event) -> Observations:
    observations = Observations()
    for event in events:
        observations.watch([event])
    return observations


def count(found: Distribution) -> int:
    return found.at_most[-1]


def test_a_job_that_finds_a_free_device_has_not_waited():
    found = told(starting(10.1, 1, "A", ready_at=10.0), started(10.25, 1)).latency
    assert count(found["no"]) == 1
    assert count(found["yes"]) == 0
    assert math.isclose(found["no"].total, 0.25)


def test_a_job_that_starts_on_a_freed_device_has_waited():
    found = told(
        starting(1, 1, "A", ready_at=1),
        started(1.1, 1),
        ended(50, 1, "A"),
        starting(50, 2, "A", ready_at=20),
        started(50.5, 2),
    )
    assert count(found.latency["yes"]) == 1
    assert math.isclose(found.latency["yes"].total, 30.5)


def test_a_start_that_took_long_without_a_freed_device_counts_as_waiting_too():
    found = told(starting(100, 1, "A", ready_at=50), started(101, 1)).latency
    assert (count(found["no"]), count(found["yes"])) == (0, 1)


def test_a_retry_counts_from_when_it_is_due():
    found = told(
        starting(1, 1, "A", ready_at=1),
        started(2, 1),
        ended(60, 1, "A", kind=EventType.JOB_RETRYING),
        starting(90.0, 1, "A", ready_at=90.0, attempt=2),
        started(90.5, 1, attempt=2),
    ).latency
    assert count(found["no"]) == 2
    assert math.isclose(found["no"].total, 1.5)


def test_a_retry_on_the_device_its_own_attempt_freed_has_not_waited():
    found = told(
        ended(60, 1, "A", kind=EventType.JOB_RETRYING),
        starting(60, 1, "A", ready_at=60, attempt=2),
        started(60.1, 1, attempt=2),
    ).latency
    assert (count(found["no"]), count(found["yes"])) == (1, 0)


def test_a_device_idles_from_its_release_to_the_next_start_while_a_job_waits():
    gap = told(ended(50, 1, "A"), starting(50, 2, "A", ready_at=20), started(50.02, 2)).idle_gap
    assert count(gap) == 1
    assert math.isclose(gap.total, 0.02, abs_tol=1e-9)


def test_a_device_nobody_waits_for_does_not_idle():
    gap = told(ended(50, 1, "A"), starting(500, 2, "A", ready_at=499), started(501, 2)).idle_gap
    assert count(gap) == 0


def test_every_device_of_a_wide_job_has_its_own_gap():
    gap = told(
        ended(50, 1, "A"),
        ended(90, 2, "B"),
        starting(90, 3, "A", "B", ready_at=10),
        started(91, 3),
    ).idle_gap
    assert count(gap) == 2
    assert math.isclose(gap.total, 41 + 1)


def test_time_in_somebody_s_hands_is_not_idle_time():
    held = an_event(51, EventType.DEVICE_HELD, device="A")
    released = an_event(80, EventType.DEVICE_RELEASED, device="A")
    next_start = (starting(80.1, 2, "A", ready_at=20), started(80.2, 2))
    gap = told(ended(50, 1, "A"), held, released, *next_start).idle_gap
    assert (count(gap), round(gap.total, 6)) == (1, 0.2)
    gap = told(held, ended(60, 1, "A"), *next_start).idle_gap
    assert count(gap) == 0, "the hold ran out by itself, nobody knows when"


def test_a_faulty_device_is_not_idle():
    quarantined = an_event(50.5, EventType.DEVICE_QUARANTINED, uuid="A")
    recovered = an_event(90, EventType.DEVICE_RECOVERED, uuid="A")
    gap = told(
        ended(50, 1, "A"), quarantined, recovered, starting(90, 2, "A", ready_at=1), started(91, 2)
    ).idle_gap
    assert (count(gap), gap.total) == (1, 1.0)


def test_attempts_of_an_earlier_daemon_are_left_out():
    found = told(started(10, 1), ended(20, 1, "A"))
    assert all(count(each) == 0 for each in found.latency.values())
    assert count(found.idle_gap) == 0


def test_an_attempt_that_never_ran_leaves_nothing_behind():
    found = told(
        starting(10, 1, "A", ready_at=10),
        ended(11, 1, "A", kind=EventType.JOB_FAILED),
        started(12, 1),
    )
    assert count(found.latency["no"]) == 0
    assert found._starts == {}


def test_a_clock_that_steps_back_gives_no_negative_durations():
    found = told(starting(10, 1, "A", ready_at=10), started(3, 1)).latency
    assert found["no"].total == 0.0


def test_metric_lines_and_queued_jobs_cost_nothing():
    observations = Observations()
    line = MetricLine(
        sequence=1,
        job_id="job-1",
        attempt_number=1,
        source=LineSource.TRAINER,
        step=1,
        time=1.0,
        values={},
    )
    queued = an_event(1.0, EventType.JOB_QUEUED, 1, None, user="alice", priority=0)
    observations.watch([line, queued])
    assert observations._starts == {}


@given(st.lists(st.floats(0, 1e6)), st.lists(st.floats(0, 1e5), min_size=1, unique=True))
def test_a_histogram_counts_every_value_at_or_below_each_bound(values, bounds):
    histogram = Histogram(sorted(bounds))
    for value in values:
        histogram.observe(value)
    found = histogram.read()
    expected = [sum(value <= bound for value in values) for bound in found.bounds]
    assert list(found.at_most) == [*expected, len(values)]
    assert math.isclose(found.total, math.fsum(values), rel_tol=1e-9, abs_tol=1e-6)
