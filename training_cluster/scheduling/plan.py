"""The planner: a snapshot in, placements and wait reasons out. Pure.

Order is priority, then number. A job gets all its devices at once or none. A job that must wait
reserves the free devices it could use, so that a stream of small jobs cannot starve it; devices
it could not use stay open to those behind it. A job this machine could never serve, or for which
the disk has no room now, reserves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from training_cluster.domain.device import (
    Availability,
    Device,
    DeviceKind,
    Quarantine,
    Standing,
    Tolerance,
)
from training_cluster.domain.disk import DiskRoom, in_words
from training_cluster.domain.job import QueuedJob
from training_cluster.domain.spec import GIB

_MOST_DEVICES_NAMED = 4


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """A device and whether the queue may use it; the records that say so or otherwise."""

    device: Device
    availability: Availability
    quarantine: Quarantine | None = None
    tolerance: Tolerance | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything a decision rests on. `queued` is in queue order and may be the queue's head.
    Without `disk` its room is no question. `slots` more jobs that take no device may run, of
    `most_slots` at a time."""

    queued: Sequence[QueuedJob]
    devices: Sequence[DeviceStatus]
    disk: DiskRoom | None = None
    slots: int = 0
    most_slots: int = 0


class WaitCode(StrEnum):
    """Why a job waits."""

    DEVICES_IN_USE = "devices_in_use"  # enough devices exist, too few are free
    SLOTS_IN_USE = "slots_in_use"  # it takes no device, and as many such jobs run as may
    BEHIND = "behind"  # a job ahead keeps the free devices for itself
    TOO_FEW_DEVICES = "too_few_devices"  # this machine cannot serve it as it is
    DEPENDENCY = "dependency"  # a job it depends on has not completed
    DATASET = "dataset"  # its dataset is still being checked
    DISK = "disk"  # what it would write does not fit on the disk now
    RETRY_DELAY = "retry_delay"  # waits before its next attempt
    NOT_PLANNED = "not_planned"  # deep in the queue: the planner has not looked at it yet
    STARTING = "starting"  # the next dispatch gives it devices


@dataclass(frozen=True, slots=True)
class WaitReason:
    """Why a job waits, as a code for programs and a sentence for people."""

    code: WaitCode
    message: str


@dataclass(frozen=True, slots=True)
class Placement:
    """Start this job on these devices."""

    job_id: str
    devices: tuple[Device, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """The decision. `broken` are jobs whose dependency failed, with the number of that job;
    `wake_at` is when waiting alone changes the picture (Unix seconds); `complete` tells whether
    every queued job of the snapshot that takes devices was looked at."""

    placements: tuple[Placement, ...]
    waiting: Mapping[str, WaitReason]
    broken: Mapping[str, int]
    wake_at: float | None
    complete: bool


@dataclass(slots=True)
class _Draft:
    free: list[Device]
    disk: DiskRoom | None = None
    slots: int = 0
    most_slots: int = 0
    reserved: dict[str, int] = field(default_factory=dict)
    placements: list[Placement] = field(default_factory=list)
    waiting: dict[str, WaitReason] = field(default_factory=dict)
    broken: dict[str, int] = field(default_factory=dict)
    wake_at: float | None = None


def plan(snapshot: Snapshot, now: float, *, explain: bool = True) -> Plan:
    """Decide what starts now. With `explain=False` jobs are passed over for which there is no
    free device, or no slot if they take none."""
    free = [status.device for status in snapshot.devices if status.availability.is_free]
    draft = _Draft(free, snapshot.disk, snapshot.slots, snapshot.most_slots)
    complete = True
    for job in snapshot.queued:
        if not explain and not (draft.free if job.gpus else draft.slots):
            complete &= job.gpus == 0
            continue
        _consider(job, snapshot.devices, draft, now)
    return Plan(tuple(draft.placements), draft.waiting, draft.broken, draft.wake_at, complete)


def _consider(job: QueuedJob, devices: Sequence[DeviceStatus], draft: _Draft, now: float) -> None:
    if job.broken_by is not None:
        draft.broken[job.id] = job.broken_by
    elif job.waits_for:
        draft.waiting[job.id] = _dependency(job)
    elif job.awaits_dataset is not None:
        message = f"waits for the dataset {job.awaits_dataset} to be checked"
        draft.waiting[job.id] = WaitReason(WaitCode.DATASET, message)
    elif job.not_before is not None and job.not_before > now:
        draft.wake_at = min(job.not_before, draft.wake_at or job.not_before)
        seconds = job.not_before - now
        draft.waiting[job.id] = WaitReason(
            WaitCode.RETRY_DELAY, f"the next attempt starts in {seconds:.0f} s"
        )
    else:
        _place(job, devices, draft)


def _place(job: QueuedJob, devices: Sequence[DeviceStatus], draft: _Draft) -> None:
    if draft.disk is not None and not _holds(draft.disk, job):
        draft.waiting[job.id] = _no_room(job, draft.disk)
        return
    if job.gpus == 0:
        _place_apart(job, draft)
        return
    usable = [device for device in draft.free if fits(job, device)]
    if len(usable) >= job.gpus:
        chosen = tuple(sorted(usable, key=_smallest_first)[: job.gpus])
        draft.placements.append(Placement(job.id, chosen))
        draft.free = [device for device in draft.free if device not in chosen]
        _take_room(job, draft)
        return
    suitable = [status for status in devices if fits(job, status.device)]
    possible = [s for s in suitable if s.availability.standing is not Standing.EXCLUDED]
    draft.waiting[job.id] = _shortage(job, possible, len(devices), draft)
    if len(possible) >= job.gpus:
        draft.free = [device for device in draft.free if device not in usable]
        draft.reserved.update({device.uuid: job.number for device in usable})


def _place_apart(job: QueuedJob, draft: _Draft) -> None:
    """A job that takes no device competes with its like alone."""
    if draft.slots > 0:
        draft.placements.append(Placement(job.id, ()))
        draft.slots -= 1
        _take_room(job, draft)
        return
    number = "job" if draft.most_slots == 1 else f"{draft.most_slots} jobs"
    message = f"takes no device; the {number} without a device that may run are running"
    draft.waiting[job.id] = WaitReason(WaitCode.SLOTS_IN_USE, message)


def _take_room(job: QueuedJob, draft: _Draft) -> None:
    if draft.disk is not None:
        draft.disk = draft.disk.after(job.disk_bytes)


def _holds(disk: DiskRoom, job: QueuedJob) -> bool:
    """A full disk holds nothing; a job that says no need is not asked for any."""
    return not disk.is_full and (job.disk_bytes == 0 or job.disk_bytes <= disk.available_bytes)


def _no_room(job: QueuedJob, disk: DiskRoom) -> WaitReason:
    if disk.is_full:
        message = f"the disk of {disk.path} is full: nothing starts until there is room"
    else:
        message = (
            f"needs about {in_words(job.disk_bytes)} on {disk.path}; {in_words(disk.free_bytes)} "
            f"are free, and jobs that run will write about {in_words(disk.promised_bytes)}"
        )
    return WaitReason(WaitCode.DISK, f"{message}; `training-cluster prune` shows what can go")


def fits(job: QueuedJob, device: Device) -> bool:
    """Whether a device could ever serve this job. A MIG slice serves single-process jobs only:
    one process sees one slice (pytorch issue 102715)."""
    if device.kind is DeviceKind.MIG and job.gpus > 1:
        return False
    return device.total_memory_bytes >= job.min_memory_bytes


def _smallest_first(device: Device) -> tuple[int, int, str]:
    return device.total_memory_bytes, device.index, device.uuid


def _dependency(job: QueuedJob) -> WaitReason:
    names = ", ".join(str(number) for number in job.waits_for[:_MOST_DEVICES_NAMED])
    return WaitReason(WaitCode.DEPENDENCY, f"waits for job {names} to complete")


def describe_need(gpus: int, min_memory_bytes: int) -> str:
    """What a job needs, in words."""
    need = f"{gpus} device{'s' if gpus > 1 else ''}"
    if min_memory_bytes:
        need += f" with at least {min_memory_bytes / GIB:g} GiB"
    return need


def _shortage(
    job: QueuedJob, possible: Sequence[DeviceStatus], total: int, draft: _Draft
) -> WaitReason:
    need = describe_need(job.gpus, job.min_memory_bytes)
    if len(possible) < job.gpus:
        return WaitReason(
            WaitCode.TOO_FEW_DEVICES,
            f"needs {need}; {len(possible)} of this machine's {total} could serve it",
        )
    reserved = sorted(
        {draft.reserved[s.device.uuid] for s in possible if s.device.uuid in draft.reserved}
    )
    if reserved:
        return WaitReason(WaitCode.BEHIND, f"needs {need}; waits behind job {reserved[0]}")
    return WaitReason(WaitCode.DEVICES_IN_USE, f"needs {need}; {_usage(possible, draft)}")


def _usage(possible: Sequence[DeviceStatus], draft: _Draft) -> str:
    """Who has the devices; those given away in this very plan count as taken by it."""
    free = {device.uuid for device in draft.free}
    taken = [s for s in possible if s.device.uuid not in free]
    words = [
        f"{label(s.device)}: {s.availability.reason or 'starts an earlier job now'}"
        for s in taken[:_MOST_DEVICES_NAMED]
    ]
    if len(taken) > _MOST_DEVICES_NAMED:
        words.append(f"and {len(taken) - _MOST_DEVICES_NAMED} more")
    available = len(possible) - len(taken)
    return f"{available} free; " + "; ".join(words)


def label(device: Device) -> str:
    """A device's name for people: its kind and index."""
    if device.kind is DeviceKind.CPU:
        return f"CPU slot {device.index}"
    return f"GPU {device.index}" + (" (slice)" if device.kind is DeviceKind.MIG else "")
