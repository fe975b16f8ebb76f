"""When a device goes into quarantine and when it has proved itself. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from training_cluster.domain.device import (
    MIB,
    Device,
    DeviceKind,
    Quarantine,
    QuarantineCause,
)


@dataclass(frozen=True, slots=True)
class QuarantineRules:
    """`healthy_readings` in a row over at least `healthy_seconds` end a quarantine that ends by
    itself. Memory may be held for `held_memory_seconds` after an attempt. A device that is to be
    quarantined for the `flaps`-th time within `flap_window_seconds` stays until a person looks."""

    healthy_readings: int = 3
    healthy_seconds: float = 30.0
    held_memory_seconds: float = 60.0
    flaps: int = 3
    flap_window_seconds: float = 3600.0


@dataclass(frozen=True, slots=True)
class Streak:
    """Healthy readings in a row, since `began` (monotonic seconds)."""

    readings: int
    began: float


@dataclass(frozen=True, slots=True)
class Freed:
    """A device that an attempt of this job gave back at `at` (monotonic seconds)."""

    job_number: int
    at: float


def longer(streak: Streak | None, now: float) -> Streak:
    """One more healthy reading."""
    return Streak(1, now) if streak is None else Streak(streak.readings + 1, streak.began)


def is_proved(streak: Streak, rules: QuarantineRules, now: float) -> bool:
    """Whether so many healthy readings are enough."""
    return streak.readings >= rules.healthy_readings and now - streak.began >= rules.healthy_seconds


def for_fault(device: Device, fault: str, now: float) -> Quarantine:
    """The quarantine of a device that could not be read."""
    cause = QuarantineCause.LOST if device.needs_reset else QuarantineCause.READING
    return Quarantine(device.uuid, device.name, cause, fault, now)


def holds_memory(device: Device, allowed_bytes: int) -> bool:
    """Whether a device that nobody uses has memory in use: more than is allowed, and no process
    that lives here is named for it. One that is named makes the device busy instead."""
    used = device.used_memory_bytes
    if device.kind is DeviceKind.CPU or used is None or used <= allowed_bytes:
        return False
    return not any(process.age_seconds is not None for process in device.processes)


def for_memory(device: Device, freed: Freed, waited_seconds: float, now: float) -> Quarantine:
    """The quarantine of a device whose memory was not given back."""
    used = (device.used_memory_bytes or 0) // MIB
    reason = f"{used} MiB still held {waited_seconds:.0f} s after job {freed.job_number} ended"
    return Quarantine(device.uuid, device.name, QuarantineCause.MEMORY, reason, now)


def is_worse(new: Quarantine, known: Quarantine | None) -> bool:
    """Whether a new quarantine says more than the one there is."""
    return known is None or (known.cause.ends_by_itself and not new.cause.ends_by_itself)


def flapping(quarantine: Quarantine, times: int) -> Quarantine:
    """The same for a device that has been in quarantine too often; `times` counts this one."""
    reason = f"{quarantine.reason}; {times} times within an hour"
    return Quarantine(
        quarantine.device_uuid,
        quarantine.name,
        QuarantineCause.FLAPPING,
        reason,
        quarantine.since,
    )
