"""Compares what the daemon says a job logged with what is read back from trackers and streams."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.adapters.kept_runs import Kept
from tests.daemon_process import DaemonProcess

Line = dict[str, Any]
Points = dict[str, list[tuple[int | None, float, float]]]


def logged_lines(daemon: DaemonProcess, job_id: str | int) -> list[Line]:
    """All metric lines of a job, in log order."""
    lines: list[Line] = []
    cursor: dict[str, Any] = {}
    while True:
        params = {"full": 1, "limit": 500, **cursor}
        response = daemon.client.get(f"/train/{job_id}/metrics", params=params)
        assert response.status_code == 200, response.text
        page = response.json()
        lines += page["lines"]
        if page["next_cursor"] is None:
            return lines
        cursor = {"cursor": page["next_cursor"]}


def as_points(lines: Iterable[Line], *, device_steps: bool = True) -> Points:
    """Step, time and value of every point by metric, in log order."""
    points: Points = {}
    for line in lines:
        step = line["step"] if device_steps or line["source"] == "trainer" else None
        for name, value in line["values"].items():
            points.setdefault(name, []).append((step, line["time"], value))
    return points


def assert_kept(kept: Kept, lines: list[Line]) -> None:
    """A tracker has every point of a job, none twice, at the right step and time."""
    wanted = as_points(lines)
    assert set(kept.points) == set(wanted)
    for name, points in wanted.items():
        found = kept.points[name]
        steps = [point[0] for point in found]
        if None not in steps:
            assert sorted(steps) == sorted(point[0] for point in points), name
        assert len(found) == len(points), name
        order = sorted(points, key=lambda point: point[1])
        pairs = zip(sorted(found, key=lambda point: point[1]), order, strict=True)
        assert all(math.isclose(f[1], w[1], abs_tol=0.002) for f, w in pairs), name
        assert sorted(f[2] for f in found) == sorted(w[2] for w in points), name


def trainer_lines(log: Path) -> list[Line]:
    """What the trainer itself wrote."""
    return [json.loads(line) for line in log.read_text().splitlines()]
