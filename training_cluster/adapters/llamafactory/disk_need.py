"""Estimates from above what LLaMA-Factory will write for a job, without loading anything."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from training_cluster.adapters.llamafactory.config import finetuning_type
from training_cluster.adapters.llamafactory.recipes import Recipe
from training_cluster.domain.disk import DiskNeed
from training_cluster.domain.hub import folder_of, hub_cache
from training_cluster.domain.spec import JobSpec
from training_cluster.ports import Dataset

_MIB = 1 << 20
_UNKNOWN_PARAMETERS = 8e9
_SMALL_FILES_BYTES = 20 * _MIB  # tokenizer, configuration, state of the trainer
_LOG_BYTES = 32 * _MIB
_ROWS_FACTOR = 3  # read, converted, tokenised
_CACHED_SECONDS = 60
_SIZE = re.compile(r"(?<![a-z0-9.])(?:(\d+)x)?(\d+(?:\.\d+)?)\s?([bm])(?![a-z0-9])", re.IGNORECASE)
_SAVED, _OPTIMIZER = 4, 8  # bytes a trained parameter takes: the weight, Adam's two moments
_PURE_BF16 = (2, 4)
# parameters of an adapter on all linear layers, by rank and the root of the model's: measured
# 30 for Qwen2.5 0.5B and 1.5B and for Llama 7B, 49 for Llama 70B
_LORA_FACTOR = 50
_EMBEDDINGS = 0.3  # the share of parameters in embeddings and head, of small models


def disk_need(
    spec: JobSpec, recipe: Recipe, dataset: Dataset, environment: Mapping[str, str]
) -> DiskNeed:
    """What one attempt writes at most at a time. The model itself is not counted: it lies where
    it lies, or in the hub's cache that all jobs share."""
    chosen = {**recipe, **spec.overrides}
    parameters = _parameters(spec.model_name, environment)
    saved, optimizer = _PURE_BF16 if chosen.get("pure_bf16") else (_SAVED, _OPTIMIZER)
    kept, trained = _shares(spec, recipe, parameters)
    small = min(_SMALL_FILES_BYTES, _small_files(spec.model_name) or _SMALL_FILES_BYTES)
    model = int(kept * saved) + small
    return DiskNeed(
        checkpoints=_checkpoints(spec, chosen, dataset),
        checkpoint_bytes=model + int(trained * optimizer),
        other_bytes=model + _LOG_BYTES + _ROWS_FACTOR * _dataset_bytes(dataset),
    )


def model_bytes(model_name: str, environment: Mapping[str, str]) -> int:
    """Bytes of a whole model with 16 bits a parameter, and of the small files beside it."""
    return int(2 * _parameters(model_name, environment)) + _SMALL_FILES_BYTES


def _shares(spec: JobSpec, recipe: Recipe, parameters: float) -> tuple[float, float]:
    """Parameters that are saved and parameters that are trained."""
    kind = finetuning_type(spec, recipe)
    if kind == "full":
        return parameters, parameters
    if kind == "freeze":
        return parameters, parameters / 4
    rank = spec.lora_rank or recipe.get("lora_rank") or 8
    adapter = rank * _LORA_FACTOR * math.sqrt(parameters)
    if spec.additional_target:
        adapter += _EMBEDDINGS * parameters
    return adapter, adapter


def _checkpoints(spec: JobSpec, chosen: Mapping[str, Any], dataset: Dataset) -> int:
    """How many lie there at a time: while one is removed by a limit, the next is there already."""
    strategy = chosen.get("save_strategy", "steps")
    if strategy == "no":
        return 1  # a pause saves one
    rows = max(1, min(dataset.rows, spec.max_samples))
    rows_per_step = spec.batch_size * spec.gradient_accumulation_steps * spec.gpus
    steps = math.ceil(rows / rows_per_step) * spec.num_epochs
    if int(chosen.get("max_steps", -1)) > 0:
        steps = int(chosen["max_steps"])
    saves = spec.num_epochs if strategy == "epoch" else steps / spec.save_steps
    limit = chosen.get("save_total_limit")
    return min(math.ceil(saves), limit + 1 if limit else 1 << 30) + 1


def _parameters(model_name: str, environment: Mapping[str, str]) -> float:
    weights = _weights(model_name, hub_cache(environment), int(time.time() / _CACHED_SECONDS))
    if weights:
        return weights / 2  # 16 bits each, as nearly all are published
    found = _SIZE.search(model_name.rpartition("/")[2])
    if found is None:
        return _UNKNOWN_PARAMETERS
    experts, number, unit = found.groups()
    return int(experts or 1) * float(number) * (1e9 if unit in "bB" else 1e6)


@lru_cache(64)
def _weights(model_name: str, hub: Path, _: int) -> int:
    """Bytes of a model's weights; 0 where they are not on this machine."""
    if os.path.isabs(model_name):
        return _sum(Path(model_name))
    snapshots = hub / folder_of(model_name) / "snapshots"
    return max((_sum(path) for path in snapshots.glob("*")), default=0)


def _sum(folder: Path) -> int:
    sizes = {kind: _bytes(folder, f"*.{kind}") for kind in ("safetensors", "bin")}
    return sizes["safetensors"] or sizes["bin"]


def _small_files(model_name: str) -> int:
    if not os.path.isabs(model_name):
        return 0
    return sum(_bytes(Path(model_name), f"*.{kind}") for kind in ("json", "txt", "model")) + _MIB


def _bytes(folder: Path, pattern: str) -> int:
    try:
        return sum(path.stat().st_size for path in folder.glob(pattern))
    except OSError:
        return 0


def _dataset_bytes(dataset: Dataset) -> int:
    return sum(bytes_of(file) or 0 for file in (dataset.train_file, dataset.validation_file))


def bytes_of(file: Path | None) -> int | None:
    """The size of a file; None for one that is not there, or has just been deleted."""
    try:
        return None if file is None else file.stat().st_size
    except OSError:
        return None
