"""How often somebody may fail to get in: counted by address, and by all addresses together."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

_MOST_ADDRESSES = 1024


@dataclass(slots=True)
class _Window:
    """A stretch of time and the failures in it."""

    began: float
    failures: int = 0


class FailureLimit:
    """Failures within a window of `seconds`. Whoever shows a valid token is never counted: behind a
    tunnel all callers have one address, and one of them must not lock the others out."""

    def __init__(
        self, *, per_address: int = 20, overall: int = 1000, seconds: float = 60.0
    ) -> None:
        self._per_address = per_address
        self._most = overall
        self._seconds = seconds
        self._overall = _Window(float("-inf"))
        self._windows: dict[str, _Window] = {}

    def fail(self, address: str, now: float) -> float | None:
        """Count a failure at `now` (monotonic seconds); returns how many seconds to wait when
        there have been too many."""
        key = network_of(address)
        window = self._windows.pop(key, None)
        if window is None or self._is_over(window, now):
            window = _Window(now)
        self._windows[key] = window  # the dictionary is in the order of the last failure
        if len(self._windows) > _MOST_ADDRESSES:
            del self._windows[next(iter(self._windows))]
        if self._is_over(self._overall, now):
            self._overall = _Window(now)
        window.failures += 1
        self._overall.failures += 1
        waits = [
            each.began + self._seconds - now
            for each, most in ((window, self._per_address), (self._overall, self._most))
            if each.failures > most
        ]
        return max(waits, default=None)

    def _is_over(self, window: _Window, now: float) -> bool:
        return now >= window.began + self._seconds


def network_of(address: str) -> str:
    """What counts as one address: of IPv6 the /64, which one host has all for itself."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if found.version == 6 and found.ipv4_mapped is None:
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(getattr(found, "ipv4_mapped", None) or found)
