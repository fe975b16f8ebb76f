"""What the daemon answers, as frozen values; each keeps the body it was read from in `raw`.

Fields carry the API's names. Times are Unix seconds, memory is bytes. A field that an older daemon
does not send keeps its default; one that a newer daemon adds is found in `raw`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from training_cluster.client.errors import ClientError
from training_cluster.domain.job import FINISHED, JobState

_T = TypeVar("_T")
_Raw = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Something the daemon answered."""

    raw: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class WaitReason:
    """Why a job waits: a code for programs, a sentence for people."""

    code: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a job is, in optimizer steps."""

    step: int
    total_steps: int
    percent: float = 0.0
    epoch: float | None = None
    elapsed_seconds: float | None = None
    remaining_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class JobError:
    """Why a job failed and what to do about it."""

    code: str
    message: str = ""
    hint: str = ""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One execution of a job."""

    attempt: int
    devices: tuple[str, ...] = ()
    start_time: float | None = None
    end_time: float | None = None
    outcome: str | None = None
    exit_code: int | None = None
    stop_reason: str | None = None
    resumed_from_step: int | None = None
    checkpoint_step: int | None = None


@dataclass(frozen=True, kw_only=True)
class Submitted(Answer):
    """The answer to a submission. `replayed`: an earlier submission with the same key made it."""

    job_id: str
    number: int
    status: str
    message: str = ""
    queue_position: int | None = None
    wait_reason: WaitReason | None = None
    estimated_start: float | None = None
    warnings: tuple[str, ...] = ()
    replayed: bool = False


@dataclass(frozen=True, kw_only=True)
class Run:
    """The job's record at a tracker. `lines` is how many metric lines it has been given: news of
    these are no reason to call a job changed."""

    tracker: str
    number: int = 1
    attempt: int = 1
    state: str = ""
    run_id: str | None = None
    url: str | None = None
    lines: int = field(default=0, compare=False)
    message: str | None = None


@dataclass(frozen=True, kw_only=True)
class Job(Answer):
    """A job. Lists leave out position, wait reason, estimates, devices and attempts. `disk_bytes`
    is what an attempt is likely to write, `pruned` what of it was removed since."""

    job_id: str
    number: int
    status: str
    user: str = ""
    config: dict[str, Any] = field(default_factory=dict, repr=False)
    created_at: float = 0.0
    start_time: float | None = None
    end_time: float | None = None
    progress: Progress | None = None
    metrics: dict[str, float] | None = None
    error: JobError | None = None
    result: dict[str, Any] | None = None
    warnings: tuple[str, ...] = ()
    queue_position: int | None = None
    wait_reason: WaitReason | None = None
    # estimates move with every reading: no reason to call a job changed
    estimated_start: float | None = field(default=None, compare=False)
    estimated_finish: float | None = field(default=None, compare=False)
    devices: tuple[str, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    webhook_id: str | None = None
    runs: tuple[Run, ...] = ()
    disk_bytes: int = 0
    pruned: dict[str, Any] | None = None

    @property
    def is_finished(self) -> bool:
        """True when nothing more happens to the job unless somebody has it tried again."""
        return self.status in FINISHED

    @property
    def is_completed(self) -> bool:
        """True when the job did what it was asked for."""
        return self.status == JobState.COMPLETED


@dataclass(frozen=True, kw_only=True)
class JobPage(Answer):
    """A part of the list of jobs, newest first; `next_cursor` None on the last page."""

    jobs: tuple[Job, ...]
    next_cursor: str | None


@dataclass(frozen=True, kw_only=True)
class Cancelled(Answer):
    """The answer to a cancellation: `cancelled`, or `stopping` while processes are ended."""

    job_id: str
    status: str
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class Device(Answer):
    """A device, its standing with the reason, and the number of the job that has it."""

    uuid: str
    kind: str = ""
    index: int = 0
    name: str = ""
    standing: str = ""
    reason: str = ""
    job: int | None = None
    total_memory_bytes: int = 0
    used_memory_bytes: int | None = None
    utilization_percent: float | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None
    parent_uuid: str | None = None
    processes: tuple[dict[str, Any], ...] = ()
    quarantine: dict[str, Any] | None = None
    tolerance: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Devices(Answer):
    """All devices; `fault` is set when they cannot be read at all. Iterates over the devices."""

    devices: tuple[Device, ...]
    source: str = ""
    note: str | None = None
    fault: str | None = None

    def __iter__(self) -> Iterator[Device]:
        return iter(self.devices)

    def __len__(self) -> int:
        return len(self.devices)


@dataclass(frozen=True, kw_only=True)
class Hold(Answer):
    """A device kept out of the queue; `until` None means until it is released."""

    device: str
    user: str = ""
    reason: str = ""
    until: float | None = None


@dataclass(frozen=True, kw_only=True)
class Released(Answer):
    """The answer to a release: whether there was a hold."""

    device: str
    released: bool


@dataclass(frozen=True, kw_only=True)
class QueuedJob:
    """A waiting job in queue order."""

    job_id: str
    number: int
    priority: int = 0
    gpus: int = 1
    queue_position: int = 0
    wait_reason: WaitReason | None = None
    estimated_start: float | None = None
    disk_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class RunningJob:
    """A job that has devices."""

    job_id: str
    number: int
    status: str
    user: str = ""
    model_name: str = ""
    attempt: int = 1
    devices: tuple[str, ...] = ()
    start_time: float | None = None
    progress: Progress | None = None


@dataclass(frozen=True, kw_only=True)
class Queue(Answer):
    """What runs, what waits in which order and why, the devices, and the disk in bytes."""

    running: tuple[RunningJob, ...]
    queued: tuple[QueuedJob, ...]
    queue_length: int = 0
    devices: tuple[Device, ...] = ()
    disk: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class About(Answer):
    """The daemon in a few words."""

    name: str
    version: str
    queue_length: int = 0
    running: int = 0
    devices: tuple[Device, ...] = ()
    device_note: str | None = None
    links: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Check:
    """One part of the daemon: is it well, and if not, what is wrong. The work goes on without
    one that is not `required`."""

    name: str
    ok: bool
    detail: str = ""
    required: bool = True


@dataclass(frozen=True, kw_only=True)
class Ready(Answer):
    """Whether the daemon can do its work."""

    status: str
    checks: tuple[Check, ...] = ()

    @property
    def is_ready(self) -> bool:
        """True when every part is well."""
        return self.status == "ready"


_NESTED: dict[str, type[Any]] = {
    "wait_reason": WaitReason,
    "progress": Progress,
    "error": JobError,
}
_NESTED_LISTS: dict[str, type[Any]] = {
    "jobs": Job,
    "attempts": Attempt,
    "runs": Run,
    "running": RunningJob,
    "queued": QueuedJob,
    "checks": Check,
}


def read(kind: type[_T], raw: _Raw, **more: Any) -> _T:
    """Build an answer from a body; `more` is what the body does not say.

    Raises ClientError when the body lacks what every daemon says."""
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    values = {name: _value(name, value) for name, value in raw.items() if name in known}
    if "raw" in known:
        values["raw"] = dict(raw)
    try:
        return kind(**values, **more)
    except TypeError as error:
        raise ClientError(
            f"the answer is not a daemon's: {error}",
            hint="another program may have this port: check the URL",
        ) from error


def _value(name: str, value: Any) -> Any:
    if isinstance(value, dict) and name in _NESTED:
        return read(_NESTED[name], value)
    if not isinstance(value, list):
        return value
    kind = Device if name == "devices" else _NESTED_LISTS.get(name)
    return tuple(read(kind, v) if kind and isinstance(v, dict) else v for v in value)
