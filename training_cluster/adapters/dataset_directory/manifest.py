"""Reads `dataset.json`, the manifest that makes a folder a dataset version."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from training_cluster.adapters.dataset_directory.formats import FORMATS
from training_cluster.adapters.dataset_directory.refusal import (
    describe,
    did_you_mean,
    quote,
    refuse,
)

NAME = "dataset.json"
LARGEST_BYTES = 64 * 1024
_KEYS = ("format", "train", "validation", "columns", "description", "license")
# LLaMA-Factory chooses its loader by the extension
_EXTENSIONS = (".json", ".jsonl")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a version says about itself; file names are relative to its folder."""

    format: str
    train: str
    validation: str | None
    columns: Mapping[str, str]
    description: str

    @property
    def files(self) -> tuple[str, ...]:
        """The data files, train first."""
        return (self.train,) if self.validation is None else (self.train, self.validation)


def read_manifest(content: bytes, where: str) -> Manifest:
    """Check a manifest's content; `where` names it in errors. Raises InvalidDataset."""
    raw = _object(content, where)
    for key in raw:
        if key not in _KEYS:
            found = f"has an unknown key {quote(key)}{did_you_mean(key, _KEYS)}"
            raise refuse(where, found, "only " + ", ".join(_KEYS))
    format_name = _format(raw, where)
    train = _file(raw, "train", where)
    validation = _file(raw, "validation", where) if raw.get("validation") is not None else None
    if validation is not None and PurePosixPath(validation) == PurePosixPath(train):
        raise refuse(where, "validation is the train file", "a file of its own, or null")
    columns = _columns(raw.get("columns"), format_name, where)
    _text(raw, "license", where)
    return Manifest(format_name, train, validation, columns, _text(raw, "description", where))


def _object(content: bytes, where: str) -> dict[str, object]:
    if len(content) > LARGEST_BYTES:
        raise refuse(where, "is too large", f"at most {LARGEST_BYTES // 1024} KiB")
    try:
        raw = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise refuse(where, f"is not valid JSON ({error})", "a JSON object") from None
    if not isinstance(raw, dict):
        raise refuse(where, f"is {describe(raw)}", "a JSON object")
    return raw


def _format(raw: dict[str, object], where: str) -> str:
    value = raw.get("format")
    if not isinstance(value, str) or value not in FORMATS:
        found = f"format is {describe(value)}" if "format" in raw else "format is missing"
        raise refuse(where, found, "one of " + ", ".join(FORMATS))
    return value


def _file(raw: dict[str, object], key: str, where: str) -> str:
    value = raw.get(key)
    if not isinstance(value, str) or not value or not value.isprintable():
        found = f"{key} is {describe(value)}" if key in raw else f"{key} is missing"
        raise refuse(where, found, "the name of a file in the version's folder")
    if PurePosixPath(value).suffix not in _EXTENSIONS:
        raise refuse(where, f"{key} is {quote(value)}", "a file that ends in .json or .jsonl")
    return value


def _text(raw: dict[str, object], key: str, where: str) -> str:
    value = raw.get(key, "")
    if not isinstance(value, str):
        raise refuse(where, f"{key} is {describe(value)}", "a string")
    return value


def _columns(value: object, format_name: str, where: str) -> dict[str, str]:
    roles = FORMATS[format_name].roles
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise refuse(where, f"columns is {describe(value)}", "an object of role to column name")
    for role, column in value.items():
        if role not in roles:
            found = f"columns names the role {quote(role)}{did_you_mean(role, roles)}"
            raise refuse(where, found, f"for {format_name} one of " + ", ".join(roles))
        if not isinstance(column, str) or not column:
            raise refuse(where, f"columns.{role} is {describe(column)}", "a column name")
    names = [value.get(role, roles[role].name) for role in roles]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise refuse(where, f"columns gives {quote(twice)} two roles", "one role a column")
    return value
