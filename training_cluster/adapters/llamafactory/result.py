"""Describes the model an attempt left: what it is, where, and how its loss went."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training_cluster.adapters.llamafactory.checkpoints import (
    last_checkpoint,
    model_kind,
    read_state,
)
from training_cluster.adapters.llamafactory.datasets import trained_on
from training_cluster.adapters.llamafactory.progress import first_points
from training_cluster.adapters.llamafactory.record import read_parameters
from training_cluster.domain.job import TrainingPoint
from training_cluster.domain.spec import JobSpec


def describe_result(
    spec: JobSpec, directory: Path, points: list[TrainingPoint], *, final: bool = True
) -> dict[str, Any] | None:
    """The model in the attempt's output; None when there is none that can be used.

    Without `final` the trainer was ended by force: what lies in the output folder may be half
    written, and only complete checkpoints count.
    """
    output = directory / "output"
    if not output.is_dir():
        return None
    sizes = sizes_of(output) if final else {}
    model = output
    if model_kind(sizes) is None:
        checkpoint = last_checkpoint(output)
        if checkpoint is None:
            return None
        model, sizes = checkpoint.path, sizes_of(checkpoint.path)
    return {
        "path": str(model),
        "kind": model_kind(sizes),
        "base_model": base_model(directory) or spec.model_name,
        "dataset": trained_on(directory / "dataset_info.json"),
        "lora_name": spec.lora_name,
        "lora_version": spec.lora_version,
        "save_name": spec.save_name,
        "size_bytes": sum(sizes.values()),
        "files": sorted(sizes),
        **_figures(output, points),
    }


def base_model(directory: Path) -> str | None:
    """What the trainer of an attempt was told to load."""
    named = read_parameters(directory / "config.yaml").get("model_name_or_path")
    return named if isinstance(named, str) else None


def sizes_of(folder: Path) -> dict[str, int]:
    """Bytes of each file in a folder."""
    with os.scandir(folder) as entries:
        return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}


def _figures(output: Path, points: list[TrainingPoint]) -> dict[str, Any]:
    losses = _named(points, "train/loss")
    tokens = _named(points, "train/total_tokens")
    evaluations = _named(points, "eval/loss")
    figures = {
        "steps": max((point.progress.step for point in points), default=None),
        "first_loss": _first_loss(output),
        "final_loss": losses[-1] if losses else None,
        "eval_loss": evaluations[-1] if evaluations else None,
        "train_loss": _train_loss(output),
        "tokens": int(tokens[-1]) if tokens else None,
    }
    return {name: value for name, value in figures.items() if value is not None}


def _named(points: list[TrainingPoint], name: str) -> list[float]:
    return [point.values[name] for point in points if name in point.values]


def _first_loss(output: Path) -> float | None:
    """The first loss of the job: an attempt that went on from a checkpoint has it from there."""
    origin = resumed_from(output.parent)
    if origin is not None and (losses := _losses(read_state(origin))):
        return losses[0][1]
    return next(iter(_named(first_points(output / "trainer_log.jsonl"), "train/loss")), None)


def _train_loss(output: Path) -> float | None:
    """The mean loss of all steps. What the trainer says divides the losses of its own steps by
    all of them, which is true only of an attempt that began at the start."""
    try:
        said = json.loads((output / "train_results.json").read_bytes()).get("train_loss")
    except (OSError, ValueError, AttributeError):
        return None
    if resumed_from(output.parent) is None:
        return said if isinstance(said, float) else None
    losses = _losses(read_state(output))
    steps = [0, *(step for step, _ in losses)]
    weighted = [loss * (steps[i + 1] - steps[i]) for i, (_, loss) in enumerate(losses)]
    return sum(weighted) / steps[-1] if steps[-1] else None


def _losses(state: Mapping[str, Any]) -> list[tuple[int, float]]:
    """Steps and losses of a log history, which goes on through every checkpoint."""
    entries = state.get("log_history")
    return [
        (entry["step"], entry["loss"])
        for entry in (entries if isinstance(entries, list) else ())
        if isinstance(entry, dict)
        and isinstance(entry.get("step"), int)
        and isinstance(entry.get("loss"), float)
    ]


def resumed_from(directory: Path) -> Path | None:
    """The checkpoint an attempt was told to go on from, None for one that began at the start."""
    try:
        chosen = json.loads((directory / "config.yaml").read_bytes()).get("resume_from_checkpoint")
    except (OSError, ValueError, AttributeError):
        return None
    return Path(chosen) if isinstance(chosen, str) else None
