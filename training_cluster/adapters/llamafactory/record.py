"""What is worth keeping of a run of LLaMA-Factory: its configuration and what it drew and wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Scalar = bool | int | float | str | None

_DRAWINGS = ("training_loss.png", "training_eval_loss.png")
_RESULTS = ("all_results.json", "train_results.json", "eval_results.json", "trainer_log.jsonl")
_CARD = "README.md"
_MODEL_SUFFIXES = (".safetensors", ".bin", ".model")
_MODEL_FILES = frozenset(
    {
        "adapter_config.json",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "chat_template.jinja",
        "merges.txt",
        "vocab.json",
        "model.safetensors.index.json",
    }
)


def read_parameters(config: Path) -> Mapping[str, Scalar]:
    """The keys of a configuration; nested values as JSON text. Empty when there is none."""
    try:
        content = json.loads(config.read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {str(key): _scalar(value) for key, value in content.items()}


def _scalar(value: Any) -> Scalar:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return json.dumps(value)


def find_artifacts(directory: Path, *, model: bool) -> Mapping[str, Path]:
    """Files of an attempt by the name they get in a tracker, those that are there."""
    output = directory / "output"
    named = {"config.yaml": directory / "config.yaml"}
    named |= {name: output / name for name in (*_DRAWINGS, *_RESULTS)}
    named["model_card.md"] = output / _CARD
    if model:
        named |= {f"model/{path.name}": path for path in _model_files(output)}
    return {name: path for name, path in named.items() if path.is_file()}


def _model_files(output: Path) -> list[Path]:
    if not output.is_dir():
        return []
    return [
        path
        for path in sorted(output.iterdir())
        if path.name in _MODEL_FILES or path.suffix in _MODEL_SUFFIXES
    ]
