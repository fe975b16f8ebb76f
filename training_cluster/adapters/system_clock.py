"""The clocks of the operating system."""

from __future__ import annotations

import time


class SystemClock:
    """The `Clock` of the daemon."""

    def now(self) -> float:
        """Unix seconds."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since some moment, never stepping."""
        return time.monotonic()
