"""Holds a job against what LLaMA-Factory can do, before it waits in the queue for nothing."""

from __future__ import annotations

from collections.abc import Iterator

from training_cluster.adapters.llamafactory.config import (
    FIELDS,
    FIXED,
    LORA_FIELDS,
    PLACES,
    finetuning_type,
    refuse_interpolations,
)
from training_cluster.adapters.llamafactory.recipes import Recipe
from training_cluster.domain.errors import FieldProblem, InvalidRequest
from training_cluster.domain.spec import JobSpec
from training_cluster.ports import Dataset

_FORMATS = {
    "sft": ("alpaca", "sharegpt", "openai"),
    "dpo": ("preference",),
    "rm": ("preference",),
    "pt": ("text", "alpaca"),
}
_FINETUNING_TYPES = ("lora", "full", "freeze")
_FIELD_OF_KEY = {key: field for field, key in FIELDS.items()} | dict(LORA_FIELDS)


def check(spec: JobSpec, recipe: Recipe, dataset: Dataset) -> tuple[str, ...]:
    """Return warnings. Raises InvalidRequest with every problem found."""
    problems = tuple(_problems(spec, recipe, dataset))
    if problems:
        raise InvalidRequest("; ".join(p.message for p in problems), problems=problems)
    texts = {key: getattr(spec, field) for field, key in {**FIELDS, **LORA_FIELDS}.items()}
    refuse_interpolations({**texts, **spec.overrides})
    return tuple(_warnings(spec, recipe, dataset))


def _problems(spec: JobSpec, recipe: Recipe, dataset: Dataset) -> Iterator[FieldProblem]:
    stage = _stage(spec, recipe)
    if stage not in _FORMATS:
        expected = f"one of {', '.join(_FORMATS)}"
        yield FieldProblem("stage", f"stage {stage!r} is not supported; {expected}", expected)
    elif dataset.format not in _FORMATS[stage]:
        yield _misfit(stage, dataset)
    kind = finetuning_type(spec, recipe)
    if kind not in _FINETUNING_TYPES:
        expected = f"one of {', '.join(_FINETUNING_TYPES)}"
        message = f"finetuning_type {kind!r} is not supported; {expected}"
        yield FieldProblem("finetuning_type", message, expected)
    yield from _override_problems(spec, dataset)


def _misfit(stage: str, dataset: Dataset) -> FieldProblem:
    expected = f"a dataset in the format {' or '.join(_FORMATS[stage])}"
    fitting = [name for name, formats in _FORMATS.items() if dataset.format in formats]
    message = (
        f"dataset {dataset.version} has the format {dataset.format}; stage {stage} needs {expected}"
    )
    if fitting:
        message += f" (its format fits stage {' or '.join(fitting)})"
    return FieldProblem("dataset_version", message, expected)


def _override_problems(spec: JobSpec, dataset: Dataset) -> Iterator[FieldProblem]:
    for key in spec.overrides:
        if field := _FIELD_OF_KEY.get(key):
            message = f"overrides.{key} is the job's own field {field}"
            yield FieldProblem(f"overrides.{key}", message, f"the field {field}")
        elif key in FIXED or key in PLACES:
            message = f"overrides.{key} is always set by the daemon"
            yield FieldProblem(f"overrides.{key}", message, "leave it out")
    evaluates = spec.overrides.get("eval_strategy", "no") != "no" or spec.overrides.get("do_eval")
    if evaluates and dataset.validation_file is None and not spec.overrides.get("val_size"):
        message = f"dataset {dataset.version} has no validation file to evaluate on"
        yield FieldProblem("overrides.eval_strategy", message, "overrides.val_size, e.g. 0.1")


def _warnings(spec: JobSpec, recipe: Recipe, dataset: Dataset) -> Iterator[str]:
    if spec.max_samples < dataset.rows:
        yield (
            f"only the first {spec.max_samples} of {dataset.rows} rows of {dataset.version} "
            "are used: max_samples"
        )
    kind = finetuning_type(spec, recipe)
    unused = [name for name in LORA_FIELDS if getattr(spec, name) is not None]
    if kind != "lora" and unused:
        yield f"{', '.join(unused)} have no effect: finetuning_type is {kind}"
    if _stage(spec, recipe) == "pt" and dataset.format == "alpaca":
        # data/processor/pretrain.py reads the first message only
        yield "stage pt trains on the instruction and input columns; the output column is not used"


def _stage(spec: JobSpec, recipe: Recipe) -> str:
    return str(spec.stage or recipe.get("stage") or "sft")
