"""Describes the model an attempt left: what it is, where, and how its loss went."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training_cluster.adapters.llamafactory.progress import first_points
from training_cluster.domain.job import TrainingPoint
from training_cluster.domain.spec import JobSpec

_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_INCOMPLETE = "checkpoint-is-incomplete.txt"  # transformers/trainer_jit_checkpoint.py


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
    sizes = _sizes(output) if final else {}
    model = output
    if _kind(sizes) is None:
        checkpoint = _last_checkpoint(output)
        if checkpoint is None:
            return None
        model, sizes = checkpoint, _sizes(checkpoint)
    return {
        "path": str(model),
        "kind": _kind(sizes),
        "base_model": spec.model_name,
        "lora_name": spec.lora_name,
        "lora_version": spec.lora_version,
        "save_name": spec.save_name,
        "size_bytes": sum(sizes.values()),
        "files": sorted(sizes),
        **_figures(output, points),
    }


def _sizes(folder: Path) -> dict[str, int]:
    with os.scandir(folder) as entries:
        return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}


def _kind(files: Mapping[str, int]) -> str | None:
    if "adapter_config.json" in files and any(n.startswith("adapter_model.") for n in files):
        return "lora_adapter"
    weights = (".safetensors", ".bin")
    if "config.json" in files and any(
        name.startswith(("model", "pytorch_model")) and name.endswith(weights) for name in files
    ):
        return "full_model"
    return None


def _last_checkpoint(output: Path) -> Path | None:
    """The furthest checkpoint that was written to its end: trainer_state.json comes last."""
    found = [
        (int(number[1]), path)
        for path in output.iterdir()
        if (number := _CHECKPOINT.fullmatch(path.name)) and _is_complete(path)
    ]
    return max(found)[1] if found else None


def _is_complete(checkpoint: Path) -> bool:
    if not (checkpoint / "trainer_state.json").is_file() or (checkpoint / _INCOMPLETE).exists():
        return False
    return _kind(_sizes(checkpoint)) is not None


def _figures(output: Path, points: list[TrainingPoint]) -> dict[str, Any]:
    log = output / "trainer_log.jsonl"
    losses = _named(points, "train/loss")
    tokens = _named(points, "train/total_tokens")
    evaluations = _named(points, "eval/loss")
    figures = {
        "steps": max((point.progress.step for point in points), default=None),
        "first_loss": next(iter(_named(first_points(log), "train/loss")), None),
        "final_loss": losses[-1] if losses else None,
        "eval_loss": evaluations[-1] if evaluations else None,
        "train_loss": _train_loss(output),
        "tokens": int(tokens[-1]) if tokens else None,
    }
    return {name: value for name, value in figures.items() if value is not None}


def _named(points: list[TrainingPoint], name: str) -> list[float]:
    return [point.values[name] for point in points if name in point.values]


def _train_loss(output: Path) -> float | None:
    try:
        value = json.loads((output / "train_results.json").read_bytes()).get("train_loss")
    except (OSError, ValueError, AttributeError):
        return None
    return value if isinstance(value, float) else None
