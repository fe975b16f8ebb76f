"""The shapes of metrics and events as OpenAPI shows them, and their examples."""

from __future__ import annotations

from typing import Any

from training_cluster.api.examples import GPU_ID, JOB_ID, STARTED_AT
from training_cluster.api.shape import Shape
from training_cluster.domain.event import EventType
from training_cluster.domain.job import JobState
from training_cluster.domain.metric import LineSource


class CurveView(Shape):
    """One metric by growing step; times are Unix seconds. `points` counts those of the whole
    curve, of which those that matter for its look are here when it is `downsampled`."""

    name: str
    steps: list[int]
    times: list[float]
    values: list[float]
    points: int
    downsampled: bool


class CurvesView(Shape):
    """What a job has measured: all names, and the curves that were asked for."""

    job_id: str
    status: JobState
    names: list[str]
    curves: list[CurveView]


class LineView(Shape):
    """One logged line. `step` is the optimizer step, or the number of the sample for telemetry;
    `time` is Unix seconds."""

    sequence: int
    attempt: int
    source: LineSource
    step: int
    time: float
    values: dict[str, float]


class LinesView(Shape):
    """Lines in the order they were logged; `next_cursor` is null when there are no more yet."""

    lines: list[LineView]
    next_cursor: str | None


class EventView(Shape):
    """One fact. `sequence` grows; `time` is Unix seconds; `job` is the job's number."""

    sequence: int
    time: float
    type: EventType
    job_id: str | None
    job: int | None
    attempt: int | None
    data: dict[str, Any]


class EventsView(Shape):
    """Events, oldest first; ask for those after `next` to go on."""

    events: list[EventView]
    next: int


LINE = {
    "sequence": 4711,
    "attempt": 1,
    "source": "trainer",
    "step": 120,
    "time": STARTED_AT + 96,
    "values": {"train/loss": 1.92, "train/learning_rate": 1.8e-5},
}
LINES = {"lines": [LINE], "next_cursor": None}
CURVES = {
    "job_id": JOB_ID,
    "status": "running",
    "names": ["system/gpu_0_utilization_percentage", "train/learning_rate", "train/loss"],
    "curves": [
        {
            "name": "train/loss",
            "steps": [60, 120],
            "times": [STARTED_AT + 48, STARTED_AT + 96],
            "values": [2.31, 1.92],
            "points": 2,
            "downsampled": False,
        }
    ],
}
CSV = """\
step,time,attempt,source,train/learning_rate,train/loss
60,1795228248.25,1,trainer,1.9e-05,2.31
120,1795228296.25,1,trainer,1.8e-05,1.92
"""
EVENT = {
    "sequence": 42,
    "time": STARTED_AT,
    "type": "job.starting",
    "job_id": JOB_ID,
    "job": 7,
    "attempt": 1,
    "data": {"devices": [GPU_ID]},
}
EVENTS = {"events": [EVENT], "next": 42}
