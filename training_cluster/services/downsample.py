"""Thins a curve out while its points come in, so that it looks the same at a smaller size.

Largest-Triangle-Three-Buckets (Sveinn Steinarsson, "Downsampling Time Series for Visual
Representation", 2013): of each bucket the point is kept that spans the largest triangle with the
point kept before it and the mean of the next bucket. Two buckets are held at a time.
"""

from __future__ import annotations

Point = tuple[int, float, float]
"""Step, time in Unix seconds, value."""


class Thinner:
    """Takes the points of one curve by growing step and keeps at most `most` of them, the first
    and the last always. `count` must be at least the number of points that will come; the buckets
    are of equal size when it is exact. `most` is at least 3.

    Of several points at one step the last wins; a point that goes back is left out."""

    def __init__(self, count: int, most: int) -> None:
        self._inner, self._buckets = count - 2, most - 2
        self._thins = count > most
        self._latest: Point | None = None
        self._kept: list[Point] = []
        self._current: list[Point] = []
        self._following: list[Point] = []
        self._bucket = 1
        self._end = self._end_of(1)
        self.total = 0

    def add(self, step: int, time: float, value: float) -> None:
        """One more point."""
        latest = self._latest
        if latest is not None:
            if step < latest[0]:
                return
            if step > latest[0]:
                self._settle(latest)
        self._latest = (step, time, value)

    def finish(self) -> list[Point]:
        """The points that were kept, after the last one has been added."""
        if self._latest is not None:
            self._settle(self._latest)
        if self._following:
            last = self._following.pop()
            self._keep_one(self._current, self._following or [last])
            self._keep_one(self._following, [last])
            self._kept.append(last)
        return self._kept

    def _settle(self, point: Point) -> None:
        index = self.total
        self.total += 1
        if not self._thins or index == 0:
            self._kept.append(point)
            return
        if index >= self._end:
            self._keep_one(self._current, self._following)
            self._current, self._following = self._following, []
            self._bucket += 1
            self._end = self._end_of(self._bucket)
        self._following.append(point)

    def _end_of(self, bucket: int) -> int:
        """The index behind the last point of a bucket: the inner points in equal shares."""
        if not self._thins:
            return 0
        return 1 - (-bucket * self._inner // self._buckets)

    def _keep_one(self, bucket: list[Point], following: list[Point]) -> None:
        if bucket:
            self._kept.append(_largest(self._kept[-1], bucket, following))


def _largest(before: Point, bucket: list[Point], following: list[Point]) -> Point:
    """The point of a bucket with the largest triangle between its neighbours."""
    step, _, value = before
    base = sum(point[0] for point in following) / len(following) - step
    rise = sum(point[2] for point in following) / len(following) - value
    best, most = bucket[0], -1.0
    for point in bucket:
        area = abs(base * (point[2] - value) - rise * (point[0] - step))
        if area > most:
            best, most = point, area
    return best
