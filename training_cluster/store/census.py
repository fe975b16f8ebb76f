"""How much there is of everything, for monitoring: read from counters and short indexes, so that
a long history costs nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from training_cluster.domain.job import JobState, Outcome
from training_cluster.domain.webhook import DeliveryState

MOST_LAG_LINES = 10_000
_MOST_LAG_RUNS = 2_000

_PRIORITIES = "SELECT priority, jobs FROM job_counts WHERE state = 'queued'"
# jobs that come back after a failed attempt keep their place: the first is not always the oldest
_WAITING_SINCE = """
SELECT min(since) FROM (
  SELECT max(created_at, coalesce(not_before, 0)) AS since
  FROM jobs INDEXED BY jobs_in_queue_order
  WHERE state = 'queued' AND priority = ? ORDER BY number LIMIT 100)"""
_STATES = "SELECT state, sum(jobs) AS jobs FROM job_counts GROUP BY state"
_ACTIVE = (
    "SELECT count(*) FROM attempts INDEXED BY one_active_attempt_per_job WHERE ended_at IS NULL"
)
_OUTCOMES = "SELECT outcome, attempts FROM attempt_counts"
_DELIVERIES = "SELECT state, deliveries FROM delivery_counts"
_OLDEST_DELIVERY = """
SELECT created_at FROM deliveries INDEXED BY deliveries_pending
WHERE state = 'pending' ORDER BY id LIMIT 1"""
_RUNS = """
SELECT tracker, count(*) AS runs FROM tracker_runs INDEXED BY tracker_runs_to_do
WHERE state IN ('waiting', 'open') GROUP BY tracker"""
_LAG = """
SELECT count(*) FROM (
  SELECT 1 FROM (
    SELECT job_number, sent_sequence FROM tracker_runs INDEXED BY tracker_runs_to_do
    WHERE tracker = :tracker AND state IN ('waiting', 'open') ORDER BY job_number LIMIT :runs) r
  CROSS JOIN metric_lines m INDEXED BY metric_lines_by_job
    ON m.job_number = r.job_number AND m.sequence > r.sent_sequence LIMIT :lines)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerBacklog:
    """What a tracker has not been told yet. `lines` are stored and not acknowledged; of more
    than MOST_LAG_LINES only so many are counted, and lines that a retry has replaced count too."""

    runs: int
    lines: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """The store in figures. `queued` and `waiting_since` go by priority; times are Unix seconds.

    `attempts` counts ended attempts since the store was made, `deliveries` how often a delivery
    reached each state, `pending_deliveries` those on their way."""

    queued: Mapping[int, int]
    waiting_since: Mapping[int, float]
    jobs: Mapping[JobState, int]
    attempts_running: int
    attempts: Mapping[Outcome, int]
    deliveries: Mapping[DeliveryState, int]
    pending_deliveries: int
    oldest_delivery: float | None
    trackers: Mapping[str, TrackerBacklog]


def take(connection: sqlite3.Connection) -> Census:
    """Count everything."""
    queued = {row["priority"]: row["jobs"] for row in connection.execute(_PRIORITIES)}
    waiting = {priority: _waiting_since(connection, priority) for priority in queued}
    deliveries = {row["state"]: row["deliveries"] for row in connection.execute(_DELIVERIES)}
    pending = deliveries.pop(DeliveryState.PENDING.value)
    oldest = connection.execute(_OLDEST_DELIVERY).fetchone()
    return Census(
        queued=queued,
        waiting_since={key: since for key, since in waiting.items() if since is not None},
        jobs={JobState(row["state"]): row["jobs"] for row in connection.execute(_STATES)},
        attempts_running=connection.execute(_ACTIVE).fetchone()[0],
        attempts={
            Outcome(row["outcome"]): row["attempts"] for row in connection.execute(_OUTCOMES)
        },
        deliveries={DeliveryState(state): count for state, count in deliveries.items()},
        pending_deliveries=pending,
        oldest_delivery=None if oldest is None else oldest["created_at"],
        trackers=_trackers(connection),
    )


def _waiting_since(connection: sqlite3.Connection, priority: int) -> float | None:
    since: float | None = connection.execute(_WAITING_SINCE, (priority,)).fetchone()[0]
    return since


def _trackers(connection: sqlite3.Connection) -> dict[str, TrackerBacklog]:
    runs = {row["tracker"]: row["runs"] for row in connection.execute(_RUNS)}
    return {
        tracker: TrackerBacklog(runs=count, lines=_lag(connection, tracker))
        for tracker, count in runs.items()
    }


def _lag(connection: sqlite3.Connection, tracker: str) -> int:
    values = {"tracker": tracker, "runs": _MOST_LAG_RUNS, "lines": MOST_LAG_LINES}
    lines: int = connection.execute(_LAG, values).fetchone()[0]
    return lines
