"""Histograms as plain counts, so that nothing heavy is loaded before anybody asks for them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True, slots=True)
class Distribution:
    """A histogram at one moment: upper bounds, and how many values were at or below each. The
    count of all values is the last one's, behind the largest bound; `total` is their sum."""

    bounds: tuple[float, ...]
    at_most: tuple[int, ...]
    total: float


class Histogram:
    """Counts values by size."""

    __slots__ = ("_bounds", "_counts", "_total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._total = 0.0

    def observe(self, value: float) -> None:
        """Count one value; it belongs to the first bound it does not exceed."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def read(self) -> Distribution:
        """What has been counted so far."""
        return Distribution(self._bounds, tuple(accumulate(self._counts)), self._total)
