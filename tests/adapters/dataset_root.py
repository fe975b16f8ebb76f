"""A dataset root in a folder of the test's own, and rows to put into it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from training_cluster.adapters.dataset_directory import DatasetDirectory
from training_cluster.domain.errors import InvalidDataset

ALPACA = {"instruction": "Say hello.", "input": "", "output": "Hello."}
PAIR = {"instruction": "Say hello.", "chosen": "Hello.", "rejected": "No."}


def talk(*turns: tuple[object, object], keys: tuple[str, str] = ("role", "content")) -> list[Any]:
    return [dict(zip(keys, turn, strict=True)) for turn in turns]


def sharegpt(*turns: tuple[object, object]) -> dict[str, Any]:
    return {"conversations": talk(*turns, keys=("from", "value"))}


def openai(*turns: tuple[object, object]) -> dict[str, Any]:
    return {"messages": talk(*turns)}


class Root:
    """A dataset root to be filled by a test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.registry = DatasetDirectory((path,))

    def add(
        self, rows: object, *, version: str = "v1", file: str = "train.json", **manifest: object
    ) -> Path:
        """Write a version; `rows` is a list for a JSON array, else the file's text or bytes."""
        folder = self.path / version
        folder.mkdir(exist_ok=True)
        content = rows if isinstance(rows, str | bytes) else json.dumps(rows)
        (folder / file).write_bytes(content.encode() if isinstance(content, str) else content)
        self.describe(version, **{"format": "alpaca", "train": file, **manifest})
        return folder

    def describe(self, version: str, **manifest: object) -> None:
        (self.path / version / "dataset.json").write_text(json.dumps(manifest))

    def refusal(self, version: str = "v1") -> str:
        with pytest.raises(InvalidDataset) as caught:
            self.registry.resolve(version)
        assert caught.value.problems[0].field == "dataset_version"
        return caught.value.message
