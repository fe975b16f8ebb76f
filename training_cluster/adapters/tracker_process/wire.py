"""The values of the Tracker port as the worker reads and writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from training_cluster.ports import OpenedRun, RunEnding, TrackedLine, TrackedRun


def run(value: TrackedRun) -> dict[str, Any]:
    """What opens a run."""
    return {
        "name": value.name,
        "project": value.project,
        "started_at": value.started_at,
        "entity": value.entity,
        "run_id": value.run_id,
        "parameters": dict(value.parameters),
        "tags": dict(value.tags),
        "labels": list(value.labels),
    }


def opened(answer: Mapping[str, Any]) -> OpenedRun:
    """What the worker says of an opened run."""
    return OpenedRun(answer["run_id"], answer["url"], answer["recorded"], answer["warning"])


def lines(values: Sequence[TrackedLine]) -> list[list[Any]]:
    """Lines, as short as they can be told."""
    return [[line.position, line.step, line.time, dict(line.values)] for line in values]


def ending(value: RunEnding) -> dict[str, Any]:
    """What finishes a run."""
    return {
        "status": value.status,
        "ended_at": value.ended_at,
        "lines": value.lines,
        "message": value.message,
        "summary": dict(value.summary),
        "artifacts": {name: str(path) for name, path in value.artifacts.items()},
    }
