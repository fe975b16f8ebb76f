"""What the tests of the LLaMA-Factory adapter share: a trainer, a dataset, an assignment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from training_cluster.adapters.llamafactory import LlamaFactoryTrainer
from training_cluster.domain.device import Device, DeviceKind
from training_cluster.domain.job import AttemptRef
from training_cluster.ports import Assignment, Dataset
from training_cluster.resources import shipped

CPU = Device(uuid="CPU-0", kind=DeviceKind.CPU, index=0, name="CPU slot 0")
ROWS = [{"instruction": f"What is {n} and one?", "output": f"It is {n + 1}."} for n in range(24)]


def a_trainer(
    command: tuple[str, ...] = ("/opt/trainer/bin/llamafactory-cli",),
    environment: Mapping[str, str] | None = None,
    pass_environment: tuple[str, ...] = (),
    recipe_dir: Path | None = None,
) -> LlamaFactoryTrainer:
    """A trainer with the shipped recipes."""
    return LlamaFactoryTrainer(
        command=command,
        recipe_dir=recipe_dir or shipped("configs/recipes"),
        grace_seconds=20.0,
        daemon_environment={"PATH": "/usr/bin", "HOME": "/home/lab", **(environment or {})},
        pass_environment=pass_environment,
    )


def a_dataset(directory: Path, rows: list[Any] | None = None, **fields: Any) -> Dataset:
    """A dataset whose files exist below `directory`; alpaca form unless told otherwise."""
    rows = ROWS if rows is None else rows
    file = directory / "train.json"
    file.write_text(json.dumps(rows), encoding="utf-8")
    dataset = Dataset(
        version="v9",
        format="alpaca",
        train_file=file,
        validation_file=None,
        columns={"prompt": "instruction", "response": "output"},
        rows=len(rows),
        sha256="0" * 64,
    )
    return replace(dataset, **fields)


def an_assignment(
    directory: Path, *devices: Device, master_port: int | None = None, number: int = 1
) -> Assignment:
    """A fresh attempt directory with devices; one CPU slot unless told otherwise."""
    attempt = directory / f"attempt-{number}"
    attempt.mkdir()
    return Assignment(
        ref=AttemptRef("job", number),
        directory=attempt,
        devices=devices or (CPU,),
        master_port=master_port,
    )


def config_of(directory: Path) -> dict[str, Any]:
    """The configuration written for an attempt."""
    content: dict[str, Any] = json.loads((directory / "config.yaml").read_text(encoding="utf-8"))
    return content
