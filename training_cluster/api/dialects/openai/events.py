"""A job's past as OpenAI tells it: messages and metrics, newest first.

One moment of ours may be several messages there; the id of a message says which one of its moment
it is, and so where a page goes on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from training_cluster.api.dialects.openai import metrics, names
from training_cluster.domain.errors import FieldProblem, InvalidRequest
from training_cluster.domain.event import Event, EventType
from training_cluster.domain.job import Job
from training_cluster.domain.metric import MetricLine
from training_cluster.services.timeline import Moment, Place

_ID = re.compile(r"ftevent-(\d{1,18})-(\d{1,18})-(\d{1,6})")
_INFO, _WARN, _ERROR = "info", "warn", "error"

Message = tuple[str, str]
"""Level and text."""
Teller = Callable[[Job, Event], list[Message]]
"""From an event to its messages, newest first."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page begins: at a place, without the first so many messages there."""

    place: Place
    skip: int = 0


def cursor(after: str | None) -> Cursor:
    """The cursor behind the id of an event. Raises InvalidRequest for what is no such id."""
    if after is None:
        return Cursor(Place())
    found = _ID.fullmatch(after)
    if found is None:
        problem = FieldProblem("after", "not the id of an event", "the id of an earlier event")
        raise InvalidRequest(f"{after[:64]!r} is no id of an event", problems=(problem,))
    event, line, index = (int(part) for part in found.groups())
    return Cursor(Place(event, line), index + 1)


def page(job: Job, moments: Sequence[Moment], start: Cursor, limit: int) -> dict[str, Any]:
    """One page of messages out of one moment more than it can need."""
    told: list[dict[str, Any]] = []
    for moment in moments:
        told += _told(job, moment)
    skipped = start.skip if moments and moments[0].behind == start.place else 0
    rest = told[skipped:]
    return {"object": "list", "data": rest[:limit], "has_more": len(rest) > limit}


def _told(job: Job, moment: Moment) -> list[dict[str, Any]]:
    what = moment.what
    if isinstance(what, MetricLine):
        return [_view(moment, 0, _INFO, _measured(job, what), _metrics(job, what))]
    return [
        _view(moment, index, level, text)
        for index, (level, text) in enumerate(TELLERS[what.type](job, what))
    ]


def _view(
    moment: Moment, index: int, level: str, message: str, data: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    return {
        "id": f"ftevent-{moment.behind.event}-{moment.behind.line}-{index}",
        "object": "fine_tuning.job.event",
        "created_at": int(moment.what.time),
        "level": level,
        "message": message,
        "type": "message" if data is None else "metrics",
        "data": dict(data or {}),
    }


def _metrics(job: Job, line: MetricLine) -> dict[str, Any]:
    total = job.progress.total_steps if job.progress else None
    return {"step": line.step, "total_steps": total, **metrics.named(line.values)}


def _measured(job: Job, line: MetricLine) -> str:
    values = metrics.named(line.values)
    total = f"/{job.progress.total_steps}" if job.progress else ""
    words = {"train_loss": "training loss", "valid_loss": "validation loss"}
    said = [f"{text}={values[key]:.4g}" for key, text in words.items() if key in values]
    return f"Step {line.step}{total}" + (f": {', '.join(said)}" if said else "")


def _created(job: Job, _: Event) -> list[Message]:
    warnings = [(_WARN, text) for text in reversed(job.warnings)]
    checked = (_INFO, f"Validating training file: {names.training_file(job)}")
    return [*warnings, checked, (_INFO, f"Created fine-tuning job: {names.job_id(job.id)}")]


def _completed(job: Job, _: Event) -> list[Message]:
    model = (_INFO, f"New fine-tuned model created: {names.tuned_model(job)}")
    return [(_INFO, "The job has successfully completed"), model]


def _failed(_: Job, event: Event) -> list[Message]:
    return [(_ERROR, f"The job failed ({event.data.get('code')}): {event.data.get('message')}")]


def _saying(text: str, level: str = _INFO) -> Teller:
    return lambda _, event: [(level, text.format(step=event.data.get("step") or 0))]


def _warned(_: Job, event: Event) -> list[Message]:
    return [(_WARN, str(event.data.get("message", "something is not as it was asked for")))]


TELLERS: Mapping[EventType, Teller] = {
    EventType.JOB_QUEUED: _created,
    EventType.JOB_STARTING: _saying("Files validated, the job is being prepared"),
    EventType.JOB_STARTED: _saying("Fine-tuning job started"),
    EventType.JOB_STOPPING: _saying("The job is being stopped"),
    EventType.JOB_COMPLETED: _completed,
    EventType.JOB_FAILED: _failed,
    EventType.JOB_CANCELLED: _saying("The job was cancelled"),
    EventType.JOB_PAUSED: _saying("The job was paused at step {step}"),
    EventType.JOB_RESUMED: _saying("The job was resumed from step {step}"),
    EventType.JOB_RETRIED: _saying("The job is tried again from step {step}"),
    EventType.JOB_RETRYING: _saying("An attempt failed, the job is tried again", _WARN),
    EventType.JOB_PREEMPTED: _saying("The job gave way to another one and goes on later", _WARN),
    EventType.JOB_STALLED: _saying("The trainer does nothing that can be seen", _WARN),
    EventType.JOB_WARNING: _warned,
}
"""The events that are told, and how."""
