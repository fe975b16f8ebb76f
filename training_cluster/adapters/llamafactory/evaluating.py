"""Evaluate: base and tuned model answer the same prompts, by our tool in the trainer's Python."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training_cluster.adapters.llamafactory.tasks import (
    OUTPUT,
    TOOLS_CONFIG,
    Programs,
    read_json,
    write_json,
)
from training_cluster.domain.disk import DiskNeed
from training_cluster.domain.spec import JobSpec
from training_cluster.ports import Assignment, Dataset

ANSWERS = "evaluation.json"
_SAMPLES, _MOST_NEW_TOKENS = 20, 128
_NEED_BYTES = 16 << 20


class Evaluate:
    """Implements `Task`."""

    def check(self, spec: JobSpec) -> tuple[str, ...]:
        """Whatever can be loaded can answer."""
        return ()

    def disk_need(self, spec: JobSpec, environment: Mapping[str, str]) -> DiskNeed:
        """A few answers."""
        return DiskNeed(0, 0, _NEED_BYTES)

    def command(
        self, spec: JobSpec, dataset: Dataset | None, assignment: Assignment, programs: Programs
    ) -> tuple[str, ...]:
        """Write task.json: the models, and the prompts or where they are."""
        task = assignment.directory / TOOLS_CONFIG
        output = assignment.directory / OUTPUT
        output.mkdir(exist_ok=True)
        told = {
            "models": _models(spec),
            "template": spec.template,
            "prompts": spec.options.get("prompts"),
            "rows": None if dataset is None else _rows(spec, dataset),
            "max_new_tokens": spec.options.get("max_new_tokens", _MOST_NEW_TOKENS),
            "answers": str(output / ANSWERS),
            "log": str(output / "trainer_log.jsonl"),
        }
        write_json(task, told)
        return (*programs.evaluate, "evaluate", str(task))

    def result(self, spec: JobSpec, directory: Path) -> dict[str, Any] | None:
        """Where the answers are, and how many prompts were answered."""
        path = directory / OUTPUT / ANSWERS
        content = read_json(path)
        if content is None or not isinstance(content.get("answers"), list):
            return None
        return {"kind": "evaluation", "path": str(path), "prompts": len(content["answers"])}


def _models(spec: JobSpec) -> list[dict[str, str | None]]:
    """Base model and tuned one, by name; one alone where there is nothing beside it."""
    tuned = spec.options.get("tuned_name") or spec.name
    base = spec.options.get("base_model")
    if spec.adapter is not None:
        known = {"name": str(base or spec.model_name), "model": spec.model_name, "adapter": None}
        return [known, {"name": tuned, "model": spec.model_name, "adapter": spec.adapter}]
    own = {"name": tuned, "model": spec.model_name, "adapter": None}
    if base is None or base == spec.model_name:
        return [own]
    return [{"name": str(base), "model": str(base), "adapter": None}, own]


def _rows(spec: JobSpec, dataset: Dataset) -> dict[str, Any]:
    return {
        "file": str(dataset.validation_file or dataset.train_file),
        "format": dataset.format,
        "columns": dict(dataset.columns),
        "most": spec.options.get("samples", _SAMPLES),
    }
