"""Fills the shapes of `views.py` from the domain's values."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any

from training_cluster.api.links import link
from training_cluster.domain.device import Device, Quarantine, Tolerance
from training_cluster.domain.disclosure import error_for_others
from training_cluster.domain.errors import FieldProblem, InvalidRequest
from training_cluster.domain.job import Attempt, Job, JobState
from training_cluster.domain.masking import masked
from training_cluster.domain.plain import plain
from training_cluster.domain.principal import Principal
from training_cluster.domain.spec import DOWNLOAD, EVALUATE, EXPORT, TRAIN, JobSpec
from training_cluster.scheduling.plan import DeviceStatus
from training_cluster.services.jobs import Overview
from training_cluster.services.queue import QueueState, Waiting
from training_cluster.store.tracker_runs import RunRow

_NAMES = {TRAIN: "Training", EXPORT: "Export", EVALUATE: "Evaluation", DOWNLOAD: "Download"}
_SPEC_FIELDS = tuple(JobSpec.__dataclass_fields__)


def job_links(job_id: str) -> dict[str, str]:
    """Where to go on from a job."""
    path = link(f"/train/{job_id}")
    return {
        "self": path,
        "logs": f"{path}/logs",
        "log_stream": f"{path}/logs/stream",
        "metrics": f"{path}/metrics",
        "metrics_stream": f"{path}/metrics/stream",
        "events": link(f"/events?job={job_id}"),
    }


def submitted(overview: Overview) -> dict[str, Any]:
    """The answer to a submission, in the words of the documented API."""
    job = overview.job
    started = job.state is not JobState.QUEUED
    return {
        "job_id": job.id,
        "number": job.number,
        "status": "started" if started else "queued",
        "message": f"{_NAMES[job.spec.kind]} job {'started' if started else 'queued'}",
        **waiting(overview.waiting),
        "warnings": job.warnings,
        "links": job_links(job.id),
    }


def waiting(prospects: Waiting | None) -> dict[str, Any]:
    """Position, reason and estimate; all null for a job that does not wait."""
    return {
        "queue_position": prospects.position if prospects else None,
        "wait_reason": plain(prospects.reason) if prospects else None,
        "estimated_start": prospects.start if prospects else None,
    }


def config(spec: JobSpec, *, is_open: bool = True) -> dict[str, Any]:
    """The job's configuration, defaults filled in, secrets masked; for others than its owner
    without where it is told of."""
    values = {name: getattr(spec, name) for name in _SPEC_FIELDS}
    values["webhook_url"] = None if spec.webhook_url is None else masked(spec.webhook_url)
    if not is_open:
        values["webhook_url"] = values["tracking"] = None
    return values


def summary(job: Job, by: Principal) -> dict[str, Any]:
    """A job as lists show it, to `by`."""
    is_open = by.owns(job.user)
    return {
        "job_id": job.id,
        "number": job.number,
        "status": job.state.value,
        "user": job.user,
        "config": config(job.spec, is_open=is_open),
        "created_at": job.created_at,
        "start_time": job.started_at,
        "end_time": job.finished_at,
        "progress": _progress(job),
        "metrics": job.metrics,
        "error": _error(job, is_open),
        "result": job.result,
        "warnings": job.warnings,
        "disk_bytes": job.disk_bytes,
        "pruned": job.pruned,
        "links": job_links(job.id),
    }


def _error(job: Job, is_open: bool) -> dict[str, Any] | None:
    if job.error is None:
        return None
    return plain(job.error if is_open else error_for_others(job.error, job.user))


def detail(overview: Overview, by: Principal) -> dict[str, Any]:
    """A job with everything known about it that is for `by` to see."""
    is_open = by.owns(overview.job.user)
    latest = overview.attempts[-1] if overview.attempts else None
    return {
        **summary(overview.job, by),
        **waiting(overview.waiting),
        "estimated_finish": overview.estimated_finish,
        "devices": latest.device_uuids if latest and latest.ended_at is None else (),
        "attempts": [_attempt(attempt) for attempt in overview.attempts],
        "webhook_id": overview.webhook_id if is_open else None,
        "runs": [_run(row, is_open) for row in overview.runs],
        "links": job_links(overview.job.id) | (_run_links(overview.runs) if is_open else {}),
    }


def _run(row: RunRow, is_open: bool) -> dict[str, Any]:
    return {
        "tracker": row.tracker,
        "number": row.number,
        "attempt": row.attempt_number,
        "state": row.state.value,
        "run_id": row.run_id if is_open else None,
        "url": row.url if is_open else None,
        "lines": row.sent_lines,
        "message": row.message if is_open else None,
    }


def _run_links(runs: Sequence[RunRow]) -> dict[str, str]:
    """The page of the latest run at each tracker that has one."""
    return {row.tracker: row.url for row in runs if row.url}


def queue_state(state: QueueState) -> dict[str, Any]:
    """The queue as GET /queue shows it."""
    holders = {uuid: job.number for job, attempt in state.running for uuid in attempt.device_uuids}
    return {
        "running": [_running(job, attempt) for job, attempt in state.running],
        "queued": [
            {
                "job_id": job.id,
                "number": job.number,
                "priority": job.priority,
                "gpus": job.gpus,
                "disk_bytes": job.disk_bytes,
                **waiting(prospects),
            }
            for job, prospects in state.queued
        ],
        "queue_length": state.queued_total,
        "devices": [device(status, holders) for status in state.devices],
        "disk": plain(state.disk) if state.disk else None,
    }


def device(status: DeviceStatus, holders: dict[str, int]) -> dict[str, Any]:
    """A device with its standing and the number of the job that holds it."""
    reading: Device = status.device
    return {
        "uuid": reading.uuid,
        "kind": reading.kind.value,
        "index": reading.index,
        "name": reading.name,
        "standing": status.availability.standing.value,
        "reason": status.availability.reason,
        "job": holders.get(reading.uuid),
        "total_memory_bytes": reading.total_memory_bytes,
        "used_memory_bytes": reading.used_memory_bytes,
        "utilization_percent": reading.utilization_percent,
        "temperature_celsius": reading.temperature_celsius,
        "power_watts": reading.power_watts,
        "parent_uuid": reading.parent_uuid,
        "processes": [plain(process) for process in reading.processes],
        "quarantine": None if status.quarantine is None else quarantine(status.quarantine),
        "tolerance": None if status.tolerance is None else tolerance(status.tolerance),
    }


def quarantine(record: Quarantine) -> dict[str, Any]:
    """Why a device is kept out of the queue."""
    return {
        "device": record.device_uuid,
        "cause": record.cause.value,
        "reason": record.reason,
        "since": record.since,
        "by": record.user,
        "ends_by_itself": record.cause.ends_by_itself,
    }


def tolerance(record: Tolerance) -> dict[str, Any]:
    """What was waved through on a device."""
    return {
        "device": record.device_uuid,
        "memory_bytes": record.memory_bytes,
        "reason": record.reason,
        "by": record.user,
        "until": record.until,
    }


def encode_cursor(number: int, kind: str = "job") -> str:
    """An opaque cursor behind a numbered thing."""
    return base64.urlsafe_b64encode(f"{kind}:{number}".encode()).decode().rstrip("=")


def decode_cursor(cursor: str, kind: str = "job") -> int:
    """The number in a cursor of this kind. Raises InvalidRequest."""
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        found, _, number = text.partition(":")
        if found == kind and number.isascii() and number.isdigit() and len(number) < 19:
            return int(number)
    except (binascii.Error, ValueError):
        pass
    problem = FieldProblem("cursor", "not a cursor", "next_cursor of an earlier page")
    raise InvalidRequest("the cursor is not one of ours", problems=(problem,))


def page(jobs: Sequence[Job], limit: int, by: Principal) -> dict[str, Any]:
    """A page of jobs out of one job more than fits on it."""
    more = len(jobs) > limit
    shown = jobs[:limit]
    return {
        "jobs": [summary(job, by) for job in shown],
        "next_cursor": encode_cursor(shown[-1].number) if more else None,
    }


def _progress(job: Job) -> dict[str, Any] | None:
    if job.progress is None:
        return None
    return {**plain(job.progress), "percent": round(100 * job.progress.fraction, 2)}


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "attempt": attempt.ref.number,
        "devices": attempt.device_uuids,
        "start_time": attempt.started_at,
        "end_time": attempt.ended_at,
        "outcome": attempt.outcome.value if attempt.outcome else None,
        "exit_code": attempt.exit_code,
        "stop_reason": attempt.stop_reason.value if attempt.stop_reason else None,
        "resumed_from_step": attempt.resumed_from.step if attempt.resumed_from else None,
        "checkpoint_step": attempt.checkpoint_step,
    }


def _running(job: Job, attempt: Attempt) -> dict[str, Any]:
    return {
        "job_id": job.id,
        "number": job.number,
        "status": job.state.value,
        "user": job.user,
        "model_name": job.spec.model_name,
        "attempt": attempt.ref.number,
        "devices": attempt.device_uuids,
        "start_time": attempt.started_at,
        "progress": _progress(job),
    }
