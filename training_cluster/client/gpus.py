"""What an admin says about devices: out of the queue, back into it, never mind what others use."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from training_cluster.client.answers import Answer, Released, read
from training_cluster.client.wire import Wire


@dataclass(frozen=True, kw_only=True)
class Quarantine(Answer):
    """A device kept out of the queue until it has proved itself or somebody releases it."""

    device: str
    cause: str = ""
    reason: str = ""
    since: float = 0.0
    by: str | None = None
    ends_by_itself: bool = False


@dataclass(frozen=True, kw_only=True)
class Tolerance(Answer):
    """Foreign memory waved through; `until` None means until it is taken back."""

    device: str
    memory_bytes: int = 0
    reason: str = ""
    by: str = ""
    until: float | None = None


class Gpus:
    """Devices, named by index or UUID."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def quarantine(self, device: str | int, reason: str) -> Quarantine:
        """Keep a device out of the queue until an admin releases it."""
        path, body = _path(device, "quarantine"), {"reason": reason}
        return read(Quarantine, self._wire.document("POST", path, body=body))

    def release(self, device: str | int) -> Released:
        """End its quarantine; `released` is False when it was in none."""
        return read(Released, self._wire.document("DELETE", _path(device, "quarantine")))

    def tolerate(
        self, device: str | int, reason: str, memory_mib: int, seconds: float | None = None
    ) -> Tolerance:
        """Have it count as free although others use so much memory, for a while or until it is
        taken back."""
        body = {"reason": reason, "memory_mib": memory_mib, "seconds": seconds}
        return read(Tolerance, self._wire.document("PUT", _path(device, "tolerance"), body=body))

    def end_tolerance(self, device: str | int) -> Released:
        """Take that back; `released` is False when nothing was waved through."""
        return read(Released, self._wire.document("DELETE", _path(device, "tolerance")))


def _path(device: str | int, what: str) -> str:
    return f"/devices/{quote(str(device), safe='')}/{what}"
