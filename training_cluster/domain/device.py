"""Devices: what the inventory reports and whether a device may be leased."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

MIB = 1024**2


class DeviceKind(StrEnum):
    """GPU, MIG slice, or a CPU slot where no GPU exists."""

    GPU = "gpu"
    MIG = "mig"
    CPU = "cpu"


@dataclass(frozen=True, slots=True)
class DeviceProcess:
    """A process that holds memory on a device, as far as the driver and /proc tell.

    In a container the driver reports host pids: then `owner`, `command` and `age_seconds` are None.
    """

    pid: int
    memory_bytes: int | None
    owner: str | None = None
    command: str | None = None
    age_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One reading of one device. Memory in bytes, temperature in °C, power in W, utilisation in %.

    `used_memory_bytes` leaves out what the driver reserves for itself. A figure the driver does
    not give is None. `fault` says why the device must not be trusted; None means healthy.
    `index` is the position by PCI bus, what CUDA_VISIBLE_DEVICES means under
    CUDA_DEVICE_ORDER=PCI_BUS_ID; MIG slices carry the index of their parent. `needs_reset` tells
    a fault that only a reset of the card ends.
    """

    uuid: str
    kind: DeviceKind
    index: int
    name: str
    total_memory_bytes: int = 0
    used_memory_bytes: int | None = None
    utilization_percent: float | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None
    processes: tuple[DeviceProcess, ...] = ()
    parent_uuid: str | None = None
    fault: str | None = None
    needs_reset: bool = False

    @property
    def is_unidentified(self) -> bool:
        """True for a GPU that never said who it is."""
        return self.uuid == unidentified(self.index)


def unidentified(index: int) -> str:
    """What a GPU is called as long as it does not say who it is."""
    return f"unknown-{index}"


@dataclass(frozen=True, slots=True)
class Inventory:
    """All devices at one moment. `source` is `nvml` or `cpu`; `note` is for people, `fault` is
    set when the devices could not be read at all."""

    devices: tuple[Device, ...]
    source: str
    taken_at: float
    note: str | None = None
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """An attempt holding a device."""

    device_uuid: str
    job_id: str
    job_number: int
    attempt_number: int
    leased_at: float


@dataclass(frozen=True, slots=True)
class Hold:
    """A person keeping a device out of the queue until `until` (Unix seconds; None: no end)."""

    device_uuid: str
    user: str
    reason: str
    created_at: float
    until: float | None = None


class QuarantineCause(StrEnum):
    """Why a device is kept out of the queue until it has proved itself, or a person says so."""

    READING = "reading"  # it could not be read; ends by healthy readings
    MEMORY = "memory"  # memory was still held after an attempt; ends when it is given back
    LOST = "lost"  # it fell off the bus or asks for a reset; a person ends it
    FLAPPING = "flapping"  # it was quarantined again and again; a person ends it
    PERSON = "person"  # somebody's decision; a person ends it

    @property
    def ends_by_itself(self) -> bool:
        """True where healthy readings are proof enough."""
        return self in (QuarantineCause.READING, QuarantineCause.MEMORY)


@dataclass(frozen=True, slots=True)
class Quarantine:
    """A device kept out of the queue since `since` (Unix seconds). `user` is the person who said
    so, None for the daemon."""

    device_uuid: str
    name: str
    cause: QuarantineCause
    reason: str
    since: float
    user: str | None = None


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Foreign memory that a person waved through on a device, until `until` (Unix seconds; None:
    until it is taken back)."""

    device_uuid: str
    memory_bytes: int
    user: str
    reason: str
    created_at: float
    until: float | None = None


@dataclass(frozen=True, slots=True)
class BusyPolicy:
    """How much foreign use makes an unleased device count as busy."""

    memory_bytes: int = 256 * MIB
    utilization_percent: float = 20.0
    excluded: frozenset[str] = frozenset()  # UUIDs or indices the operator leaves out


class Standing(StrEnum):
    """Whether the queue may use a device now."""

    FREE = "free"
    LEASED = "leased"
    HELD = "held"
    EXCLUDED = "excluded"
    BUSY = "busy"
    FAULTY = "faulty"
    QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True)
class Availability:
    """A device's standing, with the reason in words unless it is free."""

    standing: Standing
    reason: str = ""

    @property
    def is_free(self) -> bool:
        """True when the planner may place an attempt here."""
        return self.standing is Standing.FREE


def availability(
    device: Device,
    lease: Lease | None,
    hold: Hold | None,
    policy: BusyPolicy,
    quarantine: Quarantine | None = None,
    tolerance: Tolerance | None = None,
) -> Availability:
    """Judge one device. Unknown is never free: a figure needed for the judgement and not given
    because the device failed shows up as a fault; one the device does not have is skipped."""
    if lease is not None:
        return Availability(Standing.LEASED, f"leased by job {lease.job_number}")
    if device.fault is not None:
        return Availability(Standing.FAULTY, device.fault)
    if quarantine is not None:
        return Availability(Standing.QUARANTINED, f"quarantined: {quarantine.reason}")
    if _is_excluded(device, policy):
        return Availability(Standing.EXCLUDED, "left out by the settings")
    if hold is not None:
        return Availability(Standing.HELD, f"held by {hold.user}: {hold.reason}")
    return _foreign_use(device, policy, tolerance) or Availability(Standing.FREE)


def _is_excluded(device: Device, policy: BusyPolicy) -> bool:
    names = {device.uuid, device.parent_uuid, str(device.index)}
    return device.kind is not DeviceKind.CPU and not policy.excluded.isdisjoint(
        name for name in names if name
    )


def allowed_memory(policy: BusyPolicy, tolerance: Tolerance | None) -> int:
    """Bytes that others may use on a device that counts as free."""
    return max(policy.memory_bytes, 0 if tolerance is None else tolerance.memory_bytes)


def _foreign_use(
    device: Device, policy: BusyPolicy, tolerance: Tolerance | None
) -> Availability | None:
    if device.kind is DeviceKind.CPU:
        return None
    used = device.used_memory_bytes
    if used is None:
        return Availability(Standing.FAULTY, "the driver does not tell how much memory is in use")
    if used > allowed_memory(policy, tolerance):
        return Availability(Standing.BUSY, f"{used // MIB} MiB in use by {_owners(device)}")
    load = device.utilization_percent
    if load is not None and load > policy.utilization_percent:
        return Availability(Standing.BUSY, f"{load:.0f} % load by {_owners(device)}")
    return None


def _owners(device: Device) -> str:
    if not device.processes:
        return "a process that cannot be seen from here"
    biggest = max(device.processes, key=lambda process: process.memory_bytes or 0)
    who = f"pid {biggest.pid}"
    if biggest.command:
        who = f"{biggest.command} ({who})"
    if biggest.owner:
        who += f" of {biggest.owner}"
    if biggest.age_seconds is not None:
        who += f", {_age(biggest.age_seconds)} old"
    others = len(device.processes) - 1
    return f"{who} and {others} more" if others else who


def _age(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
