"""Makes the document of a notification: an event, and its job as it was at that event."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from training_cluster.domain.disclosure import error_for_others, veil
from training_cluster.domain.event import ENDINGS, Event, EventType
from training_cluster.domain.job import Attempt, Job, Progress
from training_cluster.domain.webhook import Delivery
from training_cluster.services.log_end import last_lines
from training_cluster.store import attempts, events, jobs, metric_lines, tracker_runs, webhooks
from training_cluster.store.tracker_runs import RunRow

_LOSS = "train/loss"
_MOST_POINTS = 40
_LOG_LINES = 15
_STATUS = {
    EventType.JOB_QUEUED: "queued",
    EventType.JOB_STARTED: "running",
    EventType.JOB_PROGRESS: "running",
    EventType.JOB_STALLED: "running",
    EventType.JOB_COMPLETED: "completed",
    EventType.JOB_FAILED: "failed",
    EventType.JOB_CANCELLED: "cancelled",
    EventType.JOB_PAUSED: "paused",
    EventType.JOB_RESUMED: "queued",
    EventType.JOB_RETRIED: "queued",
    EventType.JOB_PREEMPTED: "queued",
    EventType.JOB_RETRYING: "queued",
}
# events after which somebody wants to know what the trainer said last
_TROUBLE = frozenset({EventType.JOB_FAILED, EventType.JOB_RETRYING, EventType.JOB_STALLED})
# events that find the job before its attempt has run
_BEFORE = frozenset({EventType.JOB_QUEUED, EventType.JOB_STARTED})

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class JobFacts:
    """What the store knows of the job of an event; `losses` are the training losses until then."""

    job: Job
    attempt: Attempt | None
    losses: Sequence[float]
    runs: Sequence[RunRow]
    is_open: bool = True  # the receiver may see what only owner and admins can


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the document of one delivery is made of."""

    delivery: Delivery
    event: Event
    job: JobFacts | None


def gather(connection: sqlite3.Connection, delivery: Delivery) -> Facts:
    """Read what the document of a delivery needs."""
    event = events.find(connection, delivery.event_sequence)
    assert event is not None, "the schema keeps events that have deliveries"
    return Facts(delivery, event, _job_facts(connection, event, delivery.webhook_id))


def _job_facts(connection: sqlite3.Connection, event: Event, webhook_id: str) -> JobFacts | None:
    if event.job_id is None:
        return None
    job = jobs.find(connection, event.job_id)
    known = attempts.of_job(connection, job.number)
    attempt = next((one for one in known if one.ref.number == event.attempt_number), None)
    losses: list[float] = []
    if event.type not in _BEFORE:
        points = metric_lines.points(connection, job.number, _LOSS)
        losses = [value for _, time, value in points if time <= event.time]
    is_open = webhooks.sees_all_of(connection, webhook_id, job.user)
    runs = tracker_runs.of_job(connection, job.number) if is_open else ()
    return JobFacts(job, attempt, losses, runs, is_open)


def document(facts: Facts, base_url: str, device_names: Mapping[str, str]) -> Document:
    """The document of a delivery. `base_url` is this daemon's address for links and
    `device_names` are by UUID. Reads the end of the attempt's log, so it may block."""
    event, delivery = facts.event, facts.delivery
    data: Document = {"webhook_id": delivery.webhook_id, "job_sequence": delivery.job_sequence}
    if facts.job is not None:
        data["job"] = _job(event, facts.job, base_url, device_names)
    if event.type is EventType.DEVICE_QUARANTINED:
        data["device"] = {key: event.data.get(key) for key in ("uuid", "name", "reason")}
    return {
        "type": event.type.value,
        "timestamp": _timestamp(event.time),
        "sequence": event.sequence,
        "data": data,
    }


def _timestamp(time: float) -> str:
    moment = datetime.fromtimestamp(time, UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _job(event: Event, facts: JobFacts, base_url: str, names: Mapping[str, str]) -> Document:
    return {
        **_who_and_what(facts.job, base_url),
        "status": _STATUS.get(event.type),
        **_attempt(facts.attempt, names),
        **_times(event, facts.job),
        **_measured(event, facts),
        "error": _error(event, facts),
        "log_tail": _log_tail(event, facts.attempt) if facts.is_open else [],
        "result": facts.job.result if event.type is EventType.JOB_COMPLETED else None,
        "runs": _runs(facts.runs),
    }


def _who_and_what(job: Job, base_url: str) -> Document:
    page = f"{base_url.rstrip('/')}/train/{job.id}"
    return {
        "job_id": job.id,
        "number": job.number,
        "user": job.user,
        "name": job.spec.name,
        "model_name": job.spec.model_name,
        "dataset_version": job.spec.dataset_version,
        "kind": job.spec.kind,
        "created_at": job.created_at,
        "links": {"self": page, "logs": f"{page}/logs"},
    }


def _attempt(attempt: Attempt | None, names: Mapping[str, str]) -> Document:
    uuids = attempt.device_uuids if attempt is not None else ()
    return {
        "attempt": attempt.ref.number if attempt is not None else None,
        "devices": list(uuids),
        "device_names": [names.get(uuid, uuid) for uuid in uuids],
    }


def _times(event: Event, job: Job) -> Document:
    started = job.started_at
    if started is not None and started > event.time:
        started = None
    ran = started is not None and event.type not in _BEFORE
    return {
        "start_time": started,
        "end_time": job.finished_at if event.type in ENDINGS else None,
        "duration_seconds": max(event.time - started, 0.0) if started is not None and ran else None,
    }


def _measured(event: Event, facts: JobFacts) -> Document:
    losses = facts.losses
    progress, metrics = _progress(event, facts.job)
    return {
        "progress": progress,
        "metrics": metrics,
        "first_loss": losses[0] if losses else None,
        "final_loss": losses[-1] if losses else None,
        "loss_curve": _thinned(losses),
    }


def _progress(event: Event, job: Job) -> tuple[Document | None, Mapping[str, float] | None]:
    """How far the job was and what it measured last; nothing where that has changed since."""
    if event.type is EventType.JOB_PROGRESS:
        return _steps(event.data.get("progress")), event.data.get("metrics")
    if event.type in ENDINGS:
        return _steps(asdict(job.progress) if job.progress else None), job.metrics
    return None, None


def _steps(progress: Mapping[str, Any] | None) -> Document | None:
    if progress is None:
        return None
    percent = round(100 * Progress(progress["step"], progress["total_steps"]).fraction, 2)
    return {"step": progress["step"], "total_steps": progress["total_steps"], "percent": percent}


def _thinned(values: Sequence[float]) -> list[float]:
    """At most 40 values, evenly spread, the first and the last among them."""
    if len(values) <= _MOST_POINTS:
        return list(values)
    last = len(values) - 1
    return [values[round(index * last / (_MOST_POINTS - 1))] for index in range(_MOST_POINTS)]


def _error(event: Event, facts: JobFacts) -> Document | None:
    job = facts.job
    if event.type is EventType.JOB_FAILED and job.error is not None:
        error = job.error if facts.is_open else error_for_others(job.error, job.user)
        return asdict(error)
    if "code" in event.data:
        message = event.data.get("message") if facts.is_open else veil(job.user)
        return {"code": event.data["code"], "message": message, "hint": None}
    return None


def _log_tail(event: Event, attempt: Attempt | None) -> list[str]:
    if event.type not in _TROUBLE or attempt is None:
        return []
    return last_lines(Path(attempt.directory), _LOG_LINES)


def _runs(runs: Sequence[RunRow]) -> list[Document]:
    """The latest run at each tracker that has an address."""
    latest = {run.tracker: run for run in runs if run.url}
    return [{"tracker": run.tracker, "url": run.url} for run in latest.values()]
