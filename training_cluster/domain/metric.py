"""Metric lines: what a job logged, one line after the other, and curves over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class LineSource(StrEnum):
    """Who measured the values of a line."""

    TRAINER = "trainer"  # the trainer's log; `step` is the optimizer step
    TELEMETRY = "telemetry"  # the devices; `step` counts the samples of the job


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricLine:
    """One logged line of a job. `sequence` orders all lines of the store and is never used
    twice; `time` is Unix seconds; values are finite and named as Hugging Face does
    (`train/loss`), those of devices as MLflow does (`system/gpu_0_utilization_percentage`)."""

    sequence: int
    job_id: str
    attempt_number: int
    source: LineSource
    step: int
    time: float
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Curve:
    """The points of one metric, by growing step; `times` are Unix seconds. `points` is how many
    there are in all, more than are here when the curve was thinned out."""

    name: str
    steps: tuple[int, ...]
    times: tuple[float, ...]
    values: tuple[float, ...]
    points: int
