"""Counting for monitoring: right at any moment, and cheap however long the history is."""

from __future__ import annotations

import json
import random
import sqlite3

import pytest

from tests.factories import NOW, a_new_job
from training_cluster.domain.job import JobState, Outcome, Verdict
from training_cluster.domain.webhook import DeliveryState, Webhook
from training_cluster.store import attempts, census, deliveries, jobs, webhooks
from training_cluster.store.census import TrackerBacklog
from training_cluster.store.deliveries import Settled

PORTS = range(29500, 29600)


def test_an_empty_store_counts_nothing(connection):
    found = census.take(connection)
    assert found.queued == {}
    assert found.attempts_running == 0
    assert found.oldest_delivery is None
    assert set(found.deliveries.values()) == {0}


def test_jobs_and_ages_go_by_priority(connection):
    for age, priority in ((30, 0), (20, 0), (10, 5)):
        jobs.insert(connection, a_new_job(now=NOW - age, priority=priority))
    found = census.take(connection)
    assert found.queued == {0: 2, 5: 1}
    assert found.waiting_since == {0: NOW - 30, 5: NOW - 10}
    assert found.jobs == {JobState.QUEUED: 3}


def test_a_job_that_comes_back_waits_from_when_its_retry_is_due(connection):
    number = jobs.insert(connection, a_new_job(now=NOW - 5000))
    ran(connection, number, Verdict(Outcome.KILLED), retry_at=NOW - 7)
    jobs.insert(connection, a_new_job(now=NOW - 60))
    assert census.take(connection).waiting_since == {0: NOW - 60}


def ran(
    connection: sqlite3.Connection, number: int, verdict: Verdict, retry_at: float | None = None
) -> None:
    """Have a queued job's next attempt start and end."""
    job = jobs.find(connection, str(number))
    claim = (job, ("GPU-0",), f"/{number}-{job.attempt_number}", NOW, PORTS, ("mlflow",))
    claimed = attempts.claim(connection, *claim)
    assert claimed is not None
    attempts.mark_running(connection, claimed, NOW)
    assert census.take(connection).attempts_running == 1
    attempts.end(connection, jobs.find(connection, str(number)), verdict, 0, NOW, retry_at)


def test_attempts_are_counted_by_how_they_ended(connection):
    number = jobs.insert(connection, a_new_job(max_retries=2))
    ran(connection, number, Verdict(Outcome.OUT_OF_MEMORY), retry_at=NOW)
    ran(connection, number, Verdict(Outcome.OUT_OF_MEMORY), retry_at=NOW)
    ran(connection, number, Verdict(Outcome.COMPLETED))
    found = census.take(connection)
    assert found.attempts == {Outcome.OUT_OF_MEMORY: 2, Outcome.COMPLETED: 1}
    assert found.attempts_running == 0


def test_the_end_of_an_attempt_tells_its_devices_and_a_start_since_when_it_was_due(connection):
    first = jobs.insert(connection, a_new_job(now=NOW - 100))
    ran(connection, first, Verdict(Outcome.KILLED), retry_at=NOW - 50)
    ran(connection, first, Verdict(Outcome.COMPLETED))
    done = jobs.find(connection, str(first))
    second = jobs.insert(connection, a_new_job(now=NOW - 90, depends_on=(done.id,)))
    ran(connection, second, Verdict(Outcome.COMPLETED))
    rows = connection.execute("SELECT type, data FROM events ORDER BY sequence").fetchall()
    data = [(row["type"], json.loads(row["data"])) for row in rows]
    ready = [each["ready_at"] for kind, each in data if kind == "job.starting"]
    assert ready == [NOW - 100, NOW - 50, done.finished_at]
    freed = [each["devices"] for kind, each in data if kind in ("job.retrying", "job.completed")]
    assert freed == [["GPU-0"]] * 3


@pytest.mark.parametrize("seed", range(5))
def test_counted_deliveries_are_those_there_are(connection, seed):
    dice = random.Random(seed)
    hook = Webhook(id="wh_1", format="standard", url="https://x/***", user="a", created_at=NOW)
    webhooks.insert(connection, hook)
    reached = dict.fromkeys(DeliveryState, 0)
    for turn in range(60):
        if dice.random() < 0.4:
            jobs.insert(connection, a_new_job(now=NOW + turn))
        rows = deliveries.page(connection, "wh_1", limit=1000)
        if rows:
            move(connection, dice.choice(rows), dice, reached)
    webhooks.disable(connection, "wh_1", "gone", NOW)
    pending = "SELECT count(*), min(created_at) FROM deliveries WHERE state = 'pending'"
    left, oldest = connection.execute(pending).fetchone()
    reached[DeliveryState.DROPPED] += deliveries_in(connection, "dropped")
    found = census.take(connection)
    assert (found.pending_deliveries, found.oldest_delivery) == (left, oldest)
    del reached[DeliveryState.PENDING]
    assert found.deliveries == reached


def move(connection, delivery, dice, reached) -> None:
    if delivery.state is not DeliveryState.PENDING:
        deliveries.replay(connection, "wh_1", delivery.id, NOW)
        return
    state = dice.choice([DeliveryState.PENDING, DeliveryState.DELIVERED, DeliveryState.FAILED])
    next_at = NOW if state is DeliveryState.PENDING else None
    assert deliveries.settle(connection, delivery, Settled(
        state=state, next_at=next_at, status=200, error=None), NOW)  # fmt: skip
    reached[state] += 1


def deliveries_in(connection, state: str) -> int:
    query = "SELECT count(*) FROM deliveries WHERE state = ?"
    return connection.execute(query, (state,)).fetchone()[0]


def test_the_oldest_pending_delivery_is_named(connection):
    webhooks.insert(
        connection,
        Webhook(id="wh_1", format="standard", url="https://x/***", user="a", created_at=NOW),
    )
    for age in (30, 20):
        jobs.insert(connection, a_new_job(now=NOW - age))
    found = census.take(connection)
    assert (found.pending_deliveries, found.oldest_delivery) == (2, NOW - 30)


def test_lines_a_tracker_has_not_taken_are_its_lag(connection):
    number = jobs.insert(connection, a_new_job())
    job = jobs.find(connection, str(number))
    claim = (job, ("GPU-0",), "/d", NOW, PORTS, ("mlflow", "wandb"))
    attempts.claim(connection, *claim)
    add_lines(connection, number, 5)
    backlog = TrackerBacklog(runs=1, lines=5)
    assert census.take(connection).trackers == {"mlflow": backlog, "wandb": backlog}
    connection.execute(
        "UPDATE tracker_runs SET state = 'open', sent_lines = 3, sent_sequence = 3 "
        "WHERE tracker = 'mlflow'"
    )
    connection.execute("UPDATE tracker_runs SET state = 'ended' WHERE tracker = 'wandb'")
    assert census.take(connection).trackers == {"mlflow": TrackerBacklog(runs=1, lines=2)}
    add_lines(connection, number, census.MOST_LAG_LINES)
    assert census.take(connection).trackers["mlflow"].lines == census.MOST_LAG_LINES


def add_lines(connection, number: int, count: int) -> None:
    connection.executemany(
        "INSERT INTO metric_lines (job_number, attempt_number, source, step, time, metrics) "
        "VALUES (?, 1, 'trainer', ?, 1, '{}')",
        [(number, step) for step in range(count)],
    )


def test_no_query_walks_through_a_whole_table(connection):
    """A partial index over what is active or pending may be scanned, a history may not."""
    statements: list[str] = []
    jobs.insert(connection, a_new_job())
    ran(connection, 1, Verdict(Outcome.KILLED), retry_at=NOW)
    connection.set_trace_callback(statements.append)
    census.take(connection)
    connection.set_trace_callback(None)
    assert len(statements) >= 8
    for statement in statements:
        for row in connection.execute("EXPLAIN QUERY PLAN " + statement):
            scanned = row["detail"].removeprefix("SCAN ")
            history = ("jobs", "attempts", "deliveries", "tracker_runs", "metric_lines", "m")
            assert scanned not in history, (row["detail"], statement)
