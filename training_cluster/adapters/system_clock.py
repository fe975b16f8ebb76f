"""The clocks of the operating system."""

from __future__ import annotations

import time


class SystemClock:
    """The `SteppingClock` of the daemon: its wall clock goes on evenly when the system's is set,
    until `shift` has it follow."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def now(self) -> float:
        """Unix seconds."""
        return time.monotonic() + self._offset

    def monotonic(self) -> float:
        """Seconds since some moment, never stepping."""
        return time.monotonic()

    def stepped_seconds(self) -> float:
        """By how much the system's wall clock is ahead of this one."""
        return time.time() - self.now()

    def shift(self, seconds: float) -> None:
        """Set this clock forward by so much, or back."""
        self._offset += seconds
