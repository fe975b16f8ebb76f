"""Puts a job together: from a file or standard input, from --set, and from flags."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import typer

OVERRIDES = "overrides"
TRACKING = "tracking"

FIELDS = frozenset(
    {
        "kind", "model_name", "dataset_version", "template", "recipe", "stage", "finetuning_type",
        "cutoff_len", "max_samples", "batch_size", "gradient_accumulation_steps", "save_steps",
        "learning_rate", "num_epochs", "lora_rank", "lora_alpha", "lora_dropout", "lora_target",
        "additional_target", "tracking_backend", "tracking", "webhook_url", "lora_name",
        "lora_version", "save_name", "gpus", "min_gpu_memory", "priority", "max_seconds",
        "max_retries", "depends_on",
    }
)  # fmt: skip
"""The fields of a job; every other key given by --set is an override."""


def assemble(file: str | None, settings: Iterable[str], flags: Mapping[str, Any]) -> dict[str, Any]:
    """One job: the file's fields, then --set, then the flags that were given."""
    job = {} if file is None else read(file)
    for setting in settings:
        _apply(job, setting)
    given = {name: value for name, value in flags.items() if value not in (None, [], ())}
    for setting in given.pop(TRACKING, ()):
        _apply(job, f"{TRACKING}.{setting}")
    if "tracking_backend" in given:
        given["tracking_backend"] = _trackers(given["tracking_backend"])
    job.update(given)
    return job


def _trackers(words: Iterable[str]) -> str | list[str]:
    """One tracker as the API's word, several as its list."""
    names = [name.strip() for word in words for name in word.split(",") if name.strip()]
    return names[0] if len(names) == 1 else names


def read(name: str) -> dict[str, Any]:
    """A job from a YAML or JSON file, `-` for standard input."""
    where = "standard input" if name == "-" else name
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise _wrong(f"cannot read {where}: {why}") from error
    found = _parse(text, where)
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise _wrong(f"{where} must hold the fields of one job, as in `num_epochs: 1`")
    return found


def _parse(text: str, where: str) -> Any:
    # JSON first: YAML 1.1 reads 2e-5 as text
    try:
        return json.loads(text)
    except ValueError:
        pass
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise _wrong(f"{where}{line}: neither JSON nor YAML: {problem}") from error


def _apply(job: dict[str, Any], setting: str) -> None:
    key, separator, text = setting.partition("=")
    key = key.strip().removeprefix(f"{OVERRIDES}.")
    if not separator or not key:
        raise _wrong(f"--set {setting}: write it as key=value")
    if key in FIELDS:
        job[key] = _value(text)
    elif key.startswith(f"{TRACKING}."):
        name = key.removeprefix(f"{TRACKING}.")
        _part(job, TRACKING)[name] = text.split(",") if name == "tags" else text
    else:
        _part(job, OVERRIDES)[key] = _value(text)


def _part(job: dict[str, Any], name: str) -> dict[str, Any]:
    part = job.setdefault(name, {})
    if not isinstance(part, dict):
        raise _wrong(f"`{name}` in the file must be a mapping")
    return part


def _value(text: str) -> Any:
    """What JSON can read is meant so (10, 1e-4, true); everything else is text, `no` too."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _wrong(message: str) -> typer.BadParameter:
    return typer.BadParameter(message)
