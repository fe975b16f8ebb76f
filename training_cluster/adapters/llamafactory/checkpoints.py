"""Finds checkpoints that were written to their end, and tells them from those that were not.

A trainer that is killed and a machine that loses its power leave torn files: transformers neither
syncs what it saves nor moves it into place. What a file's own structure tells is checked.
"""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from training_cluster.domain.job import Checkpoint

_NAME = re.compile(r"checkpoint-(\d+)")
_INCOMPLETE = "checkpoint-is-incomplete.txt"  # transformers/trainer_jit_checkpoint.py
_STATE = "trainer_state.json"  # written after the weights, the optimizer and the random states
_ZIPPED = (".pt", ".pth", ".bin")  # torch.save writes zip archives
_LONGEST_HEADER = 100_000_000  # safetensors' own limit, in bytes
_WEIGHTS = (".safetensors", ".bin")


def last_checkpoint(output: Path, besides: Collection[Path] = ()) -> Checkpoint | None:
    """The furthest complete checkpoint in an output folder that is not one of `besides`."""
    for step, folder in sorted(_numbered(output), reverse=True):
        if folder not in besides and (state := _complete_state(folder, step)) is not None:
            return Checkpoint(folder, step, int(state.get("num_input_tokens_seen") or 0))
    return None


def read_state(folder: Path) -> Mapping[str, Any]:
    """What trainer_state.json says; empty if there is none that can be read."""
    try:
        content = json.loads((folder / _STATE).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def model_kind(files: Collection[str]) -> str | None:
    """What model files of these names make up; None for no complete one."""
    if "adapter_config.json" in files and any(n.startswith("adapter_model.") for n in files):
        return "lora_adapter"
    if "config.json" in files and any(
        name.startswith(("model", "pytorch_model")) and name.endswith(_WEIGHTS) for name in files
    ):
        return "full_model"
    return None


def is_whole_model(folder: Path) -> bool:
    """Whether a folder holds all weights of a model, none of them torn."""
    try:
        names = {entry.name for entry in os.scandir(folder) if entry.is_file()}
    except OSError:
        return False
    whole = model_kind(names) == "full_model" and all(is_whole(folder / name) for name in names)
    return whole and _shards(folder, names) <= names


def _numbered(output: Path) -> Iterator[tuple[int, Path]]:
    try:
        names = os.listdir(output)
    except OSError:
        return
    for name in names:
        if number := _NAME.fullmatch(name):
            yield int(number[1]), output / name


def _complete_state(folder: Path, step: int) -> Mapping[str, Any] | None:
    """The state of a checkpoint, None unless all of it is there."""
    try:
        names = {entry.name for entry in os.scandir(folder) if entry.is_file()}
    except OSError:
        return None
    if _INCOMPLETE in names or model_kind(names) is None:
        return None
    state = read_state(folder)
    whole = state.get("global_step") == step and all(is_whole(folder / name) for name in names)
    return state if whole and _shards(folder, names) <= names else None


def is_whole(file: Path) -> bool:
    """Whether a file is not torn, as far as its own structure tells."""
    try:
        if file.suffix == ".safetensors":
            return _is_whole_safetensors(file)
        return file.suffix not in _ZIPPED or zipfile.is_zipfile(file)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False


def _is_whole_safetensors(file: Path) -> bool:
    """Whether the file ends where its header says the last tensor does."""
    size = file.stat().st_size
    with file.open("rb") as content:
        length = int.from_bytes(content.read(8), "little")
        if not 0 < length <= min(size - 8, _LONGEST_HEADER):
            return False
        header = json.loads(content.read(length))
    tensors = (entry for name, entry in header.items() if name != "__metadata__")
    end: int = max((entry["data_offsets"][1] for entry in tensors), default=0)
    return size == 8 + length + end


def _shards(folder: Path, names: Collection[str]) -> set[str]:
    """The files that an index says the weights lie in."""
    found: set[str] = set()
    for name in names:
        if name.endswith(".index.json"):
            try:
                found |= set(json.loads((folder / name).read_bytes())["weight_map"].values())
            except (OSError, ValueError, LookupError, TypeError, AttributeError):
                found.add(f"the shards of {name}")
    return found
