"""Puts a notification document into words: headline, facts, failure, links, a small curve."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Document = Mapping[str, Any]
Pairs = tuple[tuple[str, str], ...]

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
# control, format (they turn the direction of text around), surrogate and private characters
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co"})
_BARS = "▁▂▃▄▅▆▇█"
_MOST_ERROR_LINES = 15
_LONGEST = 4000

_STATES = {
    "job.queued": ("🕒", "Queued"),
    "job.started": ("🚀", "Started"),
    "job.progress": ("📈", "Training"),
    "job.completed": ("✅", "Completed"),
    "job.failed": ("❌", "Failed"),
    "job.cancelled": ("⏹️", "Cancelled"),
    "job.paused": ("⏸️", "Paused"),
    "job.resumed": ("▶️", "Resumed"),
    "job.retried": ("🔁", "Retried"),
    "job.preempted": ("⏏️", "Preempted"),
    "job.retrying": ("🔁", "Retrying"),
    "job.stalled": ("⏳", "Nothing moves"),
    "device.quarantined": ("⚠️", "Device taken out of use"),
    "webhook.test": ("👋", "Test notification"),
}
_TRACKERS = {"mlflow": "MLflow", "wandb": "W&B"}
_LINKS = (("self", "Job"), ("logs", "Logs"))


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job failed; `lines` are the last of its log."""

    code: str
    message: str
    hint: str
    lines: tuple[str, ...]


def emoji(document: Document) -> str:
    """One picture for what happened."""
    return _STATES.get(str(document.get("type")), ("🔔", ""))[0]


def state(document: Document) -> str:
    """What happened, in one or a few words."""
    type_ = document.get("type")
    return _STATES.get(str(type_), ("", ""))[1] or one_line(type_) or "Notification"


def headline(document: Document) -> str:
    """What happened to whom, such as "Failed: my-run"."""
    device = part(document, "data", "device")
    name = job_name(document)
    if not name:
        name = one_line(device.get("name")) or one_line(device.get("uuid"))
    return f"{state(document)}: {name}" if name else state(document)


def job_name(document: Document) -> str:
    """How people call the job; empty without a job."""
    job = part(document, "data", "job")
    number = one_line(job.get("number"))
    return one_line(job.get("name")) or (f"job {number}" if number else one_line(job.get("job_id")))


def facts(document: Document) -> Pairs:
    """What is worth knowing about the job, as labels and values."""
    job = part(document, "data", "job")
    devices = job.get("device_names") or job.get("devices")
    pairs = (
        ("Who", one_line(job.get("user"))),
        ("Model", one_line(job.get("model_name"))),
        ("Dataset", one_line(job.get("dataset_version"))),
        ("Devices", ", ".join(_lines(devices))),
        ("Duration", duration(job.get("duration_seconds"))),
        ("Loss", _loss(job)),
        ("Steps", _steps(job)),
        ("Attempt", one_line(job.get("attempt")) if job.get("attempt") not in (None, 0, 1) else ""),
        ("Result", one_line(part(job, "result").get("path"))),
    )
    return tuple((label, value) for label, value in pairs if value)


def reason(document: Document) -> str:
    """Why a device was taken out of use, or what a test is for; empty otherwise."""
    if document.get("type") == "webhook.test":
        return "This webhook works. Jobs will be announced here."
    return one_line(part(document, "data", "device").get("reason"))


def failure(document: Document) -> Failure | None:
    """Why the job failed, None if it did not."""
    job = part(document, "data", "job")
    error = part(job, "error")
    if not error:
        return None
    lines = tuple(_lines(job.get("log_tail")))[-_MOST_ERROR_LINES:]
    code, message = one_line(error.get("code")), one_line(error.get("message"))
    return Failure(code or "failed", message, one_line(error.get("hint")), lines)


def links(document: Document) -> Pairs:
    """Labels and http(s) addresses of the job and of its runs at trackers."""
    job = part(document, "data", "job")
    known = part(job, "links")
    found = [(label, known.get(key)) for key, label in _LINKS]
    for run in _sequence(job.get("runs")):
        if isinstance(run, Mapping):
            tracker = one_line(run.get("tracker"))
            found.append((_TRACKERS.get(tracker, tracker) or "Run", run.get("url")))
    return tuple((label, str(url)) for label, url in found if _is_web(url))


def footnote(document: Document) -> str:
    """Ids to search by, and the time."""
    job = part(document, "data", "job")
    device = part(document, "data", "device")
    number = one_line(job.get("number"))
    words = (
        f"job {number}" if number else "",
        one_line(job.get("job_id")) or one_line(device.get("uuid")),
        one_line(document.get("timestamp")),
    )
    return " · ".join(word for word in words if word)


def sparkline(document: Document) -> str:
    """The loss curve as one line of bars; empty with fewer than two points."""
    curve = [_number(value) for value in _sequence(part(document, "data", "job").get("loss_curve"))]
    finite = [value for value in curve if value is not None]
    if len(finite) < 2:
        return ""
    low, high = min(finite), max(finite)
    half = (high / 2 - low / 2) or 1.0  # the whole may be more than a float can be
    return "".join(
        "·" if value is None else _BARS[round((value / 2 - low / 2) / half * (len(_BARS) - 1))]
        for value in curve
    )


def duration(seconds: object) -> str:
    """Seconds as people say them: 41 s, 12 min 5 s, 3 h 20 min, 2 d 4 h."""
    number = _number(seconds)
    if number is None or number < 0:
        return ""
    whole = round(number)
    for size, unit, small, small_unit in (
        (86_400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // small
            return f"{whole // size} {unit}" + (f" {rest} {small_unit}" if rest else "")
    return f"{whole} s"


def one_line(value: object) -> str:
    """A value as text without line breaks, terminal colours and unseen characters."""
    if value is None:
        return ""
    text = _ANSI.sub("", str(value)[:_LONGEST])
    seen = (c if unicodedata.category(c) not in _UNSEEN else " " for c in text)
    return " ".join("".join(seen).split())


def part(document: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    """The mapping at this path, an empty one if there is none."""
    found: object = document
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _loss(job: Mapping[str, Any]) -> str:
    first, final = _number(job.get("first_loss")), _number(job.get("final_loss"))
    if final is None:
        final = _number(part(job, "metrics").get("train/loss"))
    if final is None:
        return ""
    return f"{final:.4g}" if first is None else f"{first:.4g} → {final:.4g}"


def _steps(job: Mapping[str, Any]) -> str:
    progress = part(job, "progress")
    step, total = progress.get("step"), progress.get("total_steps")
    percent = _number(progress.get("percent"))
    if step is None:
        return ""
    of = f" of {one_line(total)}" if total else ""
    return one_line(step) + of + ("" if percent is None else f" ({percent:.0f} %)")


def _lines(value: object) -> list[str]:
    """Log lines keep their indentation."""
    found = []
    for line in _sequence(value):
        text = str(line)
        indent = len(text) - len(text.lstrip(" "))
        found.append(" " * min(indent, 40) + one_line(text))
    return found


def _sequence(value: object) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _is_web(url: object) -> bool:
    return isinstance(url, str) and url.startswith(("https://", "http://")) and len(url) <= 1000
