"""Turns what the daemon answered into tables and lines for people."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from training_cluster.cli.terminal import clean

if TYPE_CHECKING:
    from training_cluster.client import Attempt, Device, Devices, Job, Progress, Queue, RunningJob

STYLES = {
    "completed": "green",
    "running": "cyan",
    "preparing": "cyan",
    "stopping": "yellow",
    "paused": "yellow",
    "failed": "red",
    "cancelled": "dim",
    "free": "green",
    "leased": "cyan",
    "held": "yellow",
    "busy": "yellow",
    "excluded": "dim",
    "faulty": "red",
    "quarantined": "red",
    "ready": "green",
    "checking": "cyan",
    "invalid": "red",
}
_TRAINING = "train"
_BAR_CELLS = 24
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))


def table(*columns: str, right: Sequence[str] = (), narrow: Sequence[str] = ()) -> Table:
    """An empty table in the house's form. On a small terminal the last column and those named
    `narrow` give way; the others are whole as long as they fit."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        justify: Any = "right" if name in right else "left"
        gives_way = name in narrow or name == columns[-1]
        made.add_column(
            name, justify=justify, no_wrap=not gives_way,
            overflow="ellipsis" if name in narrow else "fold",
        )  # fmt: skip
    return made


def duration(seconds: float | None) -> str:
    """`4 s`, `2 min 5 s`, `3 h 10 min`; `-` for unknown."""
    if seconds is None:
        return "-"
    left = max(int(seconds), 0)
    names = [*_UNITS, (1, "s")]
    for (size, unit), following in zip(names, [*names[1:], None], strict=True):
        if left >= size or following is None:
            rest = f" {left % size // following[0]} {following[1]}" if following else ""
            return f"{left // size} {unit}" + ("" if rest.startswith(" 0") else rest)
    raise AssertionError("seconds come last")


def _roughly(seconds: float) -> str:
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def moment(unix: float | None) -> str:
    """A local date and time; `-` for none."""
    return "-" if unix is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(unix))


def gib(size: int | None) -> str:
    """Bytes as GiB."""
    return "-" if size is None else f"{size / 1024**3:.1f}"


def progress_text(progress: Progress | None) -> str:
    """`120/480 25 %`."""
    if progress is None:
        return "-"
    return f"{progress.step}/{progress.total_steps} {progress.percent:.0f} %"


def loss(job: Job) -> str:
    """The last training loss."""
    value = (job.metrics or {}).get("train/loss")
    return "-" if value is None else f"{value:.4f}"


def status(word: str) -> Text:
    """A state or a standing in its colour."""
    return Text(clean(word), STYLES.get(word, ""))


def row(into: Table, *cells: object) -> None:
    """Add cells as plain text; what is rich already stays so."""
    into.add_row(
        *(c if isinstance(c, Text) else Text("-" if c is None else clean(c)) for c in cells)
    )


def jobs_table(jobs: Iterable[Job], now: float) -> Table:
    """One line a job."""
    made = table(
        "JOB", "STATUS", "FOR", "USER", "MODEL", "DATASET", "PROGRESS", "LOSS", "NAME",
        right=("JOB",), narrow=("MODEL",),
    )  # fmt: skip
    for job in jobs:
        row(
            made, job.number, status(job.status), _roughly(_lasted(job, now)), job.user,
            job.config.get("model_name"), _dataset(job),
            progress_text(job.progress), loss(job), _label(job) or _remark(job),
        )  # fmt: skip
    return made


def _lasted(job: Job, now: float) -> float:
    """Seconds a waiting job has waited, and any other has run."""
    return (job.end_time or now) - (job.start_time or job.created_at)


def _label(job: Job) -> str:
    names = (job.config.get("save_name"), job.config.get("lora_name"))
    return next((str(name) for name in names if name), "")


def _dataset(job: Job) -> object:
    """A download has none, whatever its fields say."""
    return None if job.config.get("kind") == "download" else job.config.get("dataset_version")


def _remark(job: Job) -> str:
    return job.error.code if job.error else ""


def job_view(job: Job, now: float) -> RenderableType:
    """Everything about one job."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in _facts(job, now):
        if value not in (None, ""):
            row(facts, name, value)
    if not job.attempts:
        return facts
    return Group(facts, Text(), attempts_table(job.attempts, now))


def _facts(job: Job, now: float) -> Iterable[tuple[str, object]]:
    yield "job", f"{job.number}  ({job.job_id})"
    yield "status", status(job.status)
    yield "user", job.user
    yield "name", _label(job)
    yield "model", job.config.get("model_name")
    kind = job.config.get("kind", _TRAINING)
    yield "kind", "" if kind == _TRAINING else kind
    yield "dataset", _dataset(job)
    yield "recipe", job.config.get("recipe") if kind == _TRAINING else ""
    if job.wait_reason:
        yield "waits", job.wait_reason.message
        yield "position", job.queue_position
    yield from _times(job, now)
    if job.progress:
        yield "progress", bar(job.progress)
    yield "metrics", ", ".join(f"{k} {v:.6g}" for k, v in (job.metrics or {}).items())
    yield "devices", ", ".join(job.devices)
    if job.error:
        yield "error", f"{job.error.code}: {job.error.message}"
        yield "hint", job.error.hint
    for name, value in (job.result or {}).items():
        yield name, value if isinstance(value, str | int | float) else None
    for warning in job.warnings:
        yield "warning", warning
    for run in job.runs:
        where = run.url or run.run_id or "not there yet"
        said = f"; {run.message}" if run.message else ""
        yield run.tracker, f"{run.state}, {run.lines} lines: {where}{said}"


def _times(job: Job, now: float) -> Iterable[tuple[str, object]]:
    yield "submitted", moment(job.created_at)
    if job.estimated_start and not job.start_time:
        yield "starts", f"{moment(job.estimated_start)} (estimated)"
    if job.start_time:
        yield "started", f"{moment(job.start_time)}, ran {duration(_lasted(job, now))}"
    if job.end_time:
        yield "ended", moment(job.end_time)
    elif job.estimated_finish:
        left = duration(job.estimated_finish - now)
        yield "ends", f"{moment(job.estimated_finish)} (estimated, in {left})"


def bar(progress: Progress) -> str:
    """A progress bar of text."""
    filled = round(_BAR_CELLS * min(max(progress.percent, 0.0), 100.0) / 100)
    drawn = "#" * filled + "." * (_BAR_CELLS - filled)
    return f"[{drawn}] {progress_text(progress)}, {duration(progress.remaining_seconds)} left"


def attempts_table(attempts: Iterable[Attempt], now: float) -> Table:
    """One line an attempt."""
    made = table("ATTEMPT", "OUTCOME", "EXIT", "STARTED", "RAN", "DEVICES", right=("ATTEMPT",))
    for one in attempts:
        ran = None if one.start_time is None else (one.end_time or now) - one.start_time
        devices = ", ".join(one.devices)
        outcome = status(one.outcome or "running")
        row(
            made,
            one.attempt,
            outcome,
            one.exit_code,
            moment(one.start_time),
            duration(ran),
            devices,
        )
    return made


def queue_view(queue: Queue, now: float) -> RenderableType:
    """What runs above what waits."""
    running = table(
        "JOB", "STATUS", "USER", "MODEL", "PROGRESS", "RAN", "DEVICES",
        right=("JOB",), narrow=("MODEL",),
    )  # fmt: skip
    for job in queue.running:
        row(
            running, job.number, status(job.status), job.user, job.model_name,
            progress_text(job.progress), _running_for(job, now), ", ".join(job.devices),
        )  # fmt: skip
    waiting = table("POSITION", "JOB", "PRIORITY", "GPUS", "STARTS", "WAITS", right=("JOB",))
    for one in queue.queued:
        why = one.wait_reason.message if one.wait_reason else ""
        starts = _starts(one.estimated_start, now)
        row(waiting, one.queue_position, one.number, one.priority, one.gpus, starts, why)
    unlisted = queue.queue_length - len(queue.queued)
    parts: list[RenderableType] = [running if queue.running else Text("nothing runs"), Text()]
    parts.append(waiting if queue.queued else Text("nothing waits"))
    if unlisted > 0:
        parts.append(Text(f"and {unlisted} more"))
    return Group(*parts)


def _running_for(job: RunningJob, now: float) -> str:
    return duration(None if job.start_time is None else max(now - job.start_time, 0.0))


def _starts(estimated: float | None, now: float) -> str:
    return "-" if estimated is None else f"in {duration(estimated - now)}"


def devices_view(devices: Devices) -> RenderableType:
    """One line a device, and what is wrong with all of them."""
    made = table(
        "DEVICE", "NAME", "STANDING", "JOB", "GIB", "LOAD", "TEMP", "POWER", "UUID", "WHY",
        right=("DEVICE", "JOB"), narrow=("NAME", "UUID"),
    )  # fmt: skip
    for device in devices:
        row(
            made, device.index, device.name, status(device.standing), device.job, _memory(device),
            _figure(device.utilization_percent, "%"), _figure(device.temperature_celsius, "°C"),
            _figure(device.power_watts, "W"), device.uuid, device.reason,
        )  # fmt: skip
    remark = devices.fault or devices.note
    return Group(made, Text(clean(remark))) if remark else made


def _memory(device: Device) -> str:
    if not device.total_memory_bytes:
        return "-"
    return f"{gib(device.used_memory_bytes)}/{gib(device.total_memory_bytes)}"


def _figure(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.0f} {unit}"
