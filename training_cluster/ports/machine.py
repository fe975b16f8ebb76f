"""The machine the daemon runs on: its time, its devices, its users."""

from __future__ import annotations

from typing import Protocol

from training_cluster.domain.device import Inventory


class Clock(Protocol):
    """The time, so that tests can set it."""

    def now(self) -> float:
        """Unix seconds; for records shown to people."""
        ...

    def monotonic(self) -> float:
        """Seconds that never step; for durations and deadlines."""
        ...


class SteppingClock(Clock, Protocol):
    """A clock that goes on evenly when the machine's wall clock is set, and can be told to
    follow."""

    def stepped_seconds(self) -> float:
        """By how much the machine's wall clock is ahead of `now`."""
        ...

    def shift(self, seconds: float) -> None:
        """Set `now` forward by so much, or back."""
        ...


class DeviceInventory(Protocol):
    """Reads the devices of a machine. Never raises: a failed reading is a fault on a device
    or on the whole inventory. May block; callers give it a thread and a deadline."""

    def read(self) -> Inventory:
        """Read every device now."""
        ...

    def close(self) -> None:
        """Let go of what reading needs; the next reading takes it up again."""
        ...


class PeerIdentity(Protocol):
    """Tells which local user holds the other end of a connection."""

    def user_of(self, client: tuple[str, int], server: tuple[str, int]) -> str | None:
        """The user's name, or None when nobody on this machine can be named."""
        ...
