"""Describes a registered dataset to LLaMA-Factory: the content of dataset_info.json."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from training_cluster.ports import Dataset

# LLaMA-Factory takes every role it is not told of for absent, once it is told of one, and fails
# on a column it does not find (data/parser.py, data/converter.py). So `dataset.columns`, which
# names what the files have, says it all; these stand in for roles that no dataset lacks.
_REQUIRED = {
    "alpaca": {"prompt": "instruction", "response": "output"},
    "prompt_completion": {"prompt": "prompt", "response": "completion"},
    "sharegpt": {"messages": "conversations"},
    "openai": {"messages": "messages"},
    "preference": {"prompt": "instruction", "chosen": "chosen", "rejected": "rejected"},
    "kto": {"prompt": "instruction", "response": "output", "kto_tag": "kto_tag"},
    "text": {"prompt": "text"},
}
# The trainer's own formatting `openai` adds "detailed thinking off" to every system message
# (data/converter.py); `sharegpt` with the tags of openai reads the same rows unchanged.
_FORMATTING = {"sharegpt": "sharegpt", "openai": "sharegpt"}
_OPENAI_TAGS = {
    "role_tag": "role",
    "content_tag": "content",
    "user_tag": "user",
    "assistant_tag": "assistant",
    "observation_tag": "tool",
    "function_tag": "function",
    "system_tag": "system",
}
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]")


def train_name(dataset: Dataset) -> str:
    """What the training split is called in dataset_info.json and on the model card."""
    return _NOT_IN_NAMES.sub("_", dataset.version)


def validation_name(dataset: Dataset) -> str:
    """What the validation split is called."""
    return f"{train_name(dataset)}-validation"


def dataset_info(dataset: Dataset) -> dict[str, Any]:
    """The entries for the dataset's files, by absolute name."""
    info = {train_name(dataset): _entry(dataset, dataset.train_file)}
    if dataset.validation_file is not None:
        info[validation_name(dataset)] = _entry(dataset, dataset.validation_file)
    return info


def trained_on(info: Path) -> dict[str, Any] | None:
    """Name and content hash of what an attempt was trained on; None when nothing says so."""
    try:
        entry = next(iter(json.loads(info.read_bytes()).values()))
        return {"version": str(entry["version"]), "sha256": str(entry["sha256"])}
    except (OSError, ValueError, LookupError, AttributeError, TypeError, StopIteration):
        return None


def _entry(dataset: Dataset, file: Path) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "file_name": str(file),
        "formatting": _FORMATTING.get(dataset.format, "alpaca"),
        "columns": {**_REQUIRED[dataset.format], **dataset.columns},
        # the trainer does not look at these: they say what was trained on
        "version": dataset.version,
        "sha256": dataset.sha256,
    }
    if dataset.format == "preference":
        entry["ranking"] = True
    if dataset.format == "openai":
        entry["tags"] = _OPENAI_TAGS
    return entry
