"""Reads trainer_log.jsonl: one JSON object per logged step, evaluation or end of training."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from training_cluster.domain.job import Checkpoint, Progress, TrainingPoint

_NAMES = {
    "loss": "train/loss",
    "lr": "train/learning_rate",
    "reward": "train/reward",
    "accuracy": "train/accuracy",
    "throughput": "train/throughput",
    "total_tokens": "train/total_tokens",
    "vram_allocated": "train/vram_allocated",
    "vram_reserved": "train/vram_reserved",
    "epoch": "train/epoch",
    "eval_loss": "eval/loss",
    "predict_loss": "predict/loss",
}
_DURATION = re.compile(r"(?:(\d+) days?, )?(\d+):(\d\d):(\d\d)")
_WINDOW_BYTES = 8 * 1024  # some forty lines


def parse_line(line: bytes, since: Checkpoint | None = None) -> TrainingPoint | None:
    """The point a line describes, of a training that went on from a checkpoint; None when it is
    no such line. Non-finite values are dropped."""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    step, total = content.get("current_steps"), content.get("total_steps")
    if type(step) is not int or type(total) is not int or step < 0 or total < 0:
        return None
    point = TrainingPoint(_progress(content, step, total), _values(content))
    return point if since is None else _of_this_attempt(point, since)


def _of_this_attempt(point: TrainingPoint, since: Checkpoint) -> TrainingPoint:
    """LLaMA-Factory divides all steps and all tokens of the job by the seconds of the attempt: the
    speed is that of the steps and tokens since the checkpoint."""
    progress, values = point.progress, dict(point.values)
    done, elapsed = progress.step - since.step, progress.elapsed_seconds
    remaining = None
    if done > 0 and elapsed is not None:
        remaining = elapsed / done * (progress.total_steps - progress.step)
    tokens = values.get("train/total_tokens", 0.0)
    throughput = values.pop("train/throughput", None)
    if throughput is not None and tokens > since.tokens:
        values["train/throughput"] = throughput * (1 - since.tokens / tokens)
    return TrainingPoint(replace(progress, remaining_seconds=remaining), values)


def first_points(log: Path) -> list[TrainingPoint]:
    """The points at the start of the log; none when there is no log."""
    return list(_points(_read(log, from_end=False)))


def last_points(log: Path) -> list[TrainingPoint]:
    """The points at the end of the log; none when there is no log."""
    return list(_points(_read(log, from_end=True)))


def _points(text: bytes) -> Iterator[TrainingPoint]:
    for line in text.splitlines():
        point = parse_line(line)
        if point is not None:
            yield point


def _read(log: Path, *, from_end: bool) -> bytes:
    try:
        with log.open("rb") as file:
            if from_end:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _WINDOW_BYTES))
            return file.read(_WINDOW_BYTES)
    except OSError:
        return b""


def _progress(content: dict[str, Any], step: int, total: int) -> Progress:
    return Progress(
        step=step,
        total_steps=total,
        epoch=_number(content.get("epoch")),
        elapsed_seconds=_seconds(content.get("elapsed_time")),
        remaining_seconds=_seconds(content.get("remaining_time")),
    )


def _values(content: dict[str, Any]) -> dict[str, float]:
    values = {name: _number(content.get(key)) for key, name in _NAMES.items()}
    return {name: value for name, value in values.items() if value is not None}


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _seconds(value: object) -> float | None:
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
