"""Holds a job against what LLaMA-Factory can do, before it waits in the queue for nothing."""

from __future__ import annotations

from collections.abc import Iterator

from training_cluster.adapters.llamafactory.config import (
    ALLOWED,
    FIELDS,
    FIXED,
    LORA_FIELDS,
    PLACES,
    finetuning_type,
    refuse_interpolations,
)
from training_cluster.adapters.llamafactory.disk_need import bytes_of
from training_cluster.adapters.llamafactory.recipes import Recipe
from training_cluster.domain.errors import FieldProblem, InvalidRequest
from training_cluster.domain.spec import JobSpec
from training_cluster.ports import Dataset

_FORMATS = {
    "sft": ("alpaca", "prompt_completion", "sharegpt", "openai"),
    "dpo": ("preference",),
    "kto": ("kto",),
    "rm": ("preference",),
    "pt": ("text", "alpaca", "prompt_completion"),
}
_BYTES_OF_A_TOKEN = 4  # of text, as a rule
_FINETUNING_TYPES = ("lora", "full", "freeze")
_FIELD_OF_KEY = {key: field for field, key in FIELDS.items()} | dict(LORA_FIELDS)


def check(spec: JobSpec, recipe: Recipe, dataset: Dataset | None) -> tuple[str, ...]:
    """Return warnings. Raises InvalidRequest with every problem found."""
    problems = tuple(_problems(spec, recipe, dataset))
    if problems:
        raise InvalidRequest("; ".join(p.message for p in problems), problems=problems)
    texts = {key: getattr(spec, field) for field, key in {**FIELDS, **LORA_FIELDS}.items()}
    refuse_interpolations({**texts, **spec.overrides})
    return tuple(_warnings(spec, recipe, dataset))


def _problems(spec: JobSpec, recipe: Recipe, dataset: Dataset | None) -> Iterator[FieldProblem]:
    stage = _stage(spec, recipe)
    if stage not in _FORMATS:
        expected = f"one of {', '.join(_FORMATS)}"
        yield FieldProblem("stage", f"stage {stage!r} is not supported; {expected}", expected)
    elif dataset is not None and dataset.format not in _FORMATS[stage]:
        yield _misfit(stage, dataset)
    kind = finetuning_type(spec, recipe)
    if kind not in _FINETUNING_TYPES:
        expected = f"one of {', '.join(_FINETUNING_TYPES)}"
        message = f"finetuning_type {kind!r} is not supported; {expected}"
        yield FieldProblem("finetuning_type", message, expected)
    if spec.adapter is not None and (kind != "lora" or "," in spec.adapter):
        message = f"a LoRA adapter is trained on as LoRA; finetuning_type is {kind}"
        if kind == "lora":
            message = f"the path {spec.adapter} has a comma in it, where the trainer would split it"
        yield FieldProblem("model_name", message, "finetuning_type lora, or a whole model")
    yield from _override_problems(spec)
    if dataset is not None:
        yield from _evaluation_problems(spec, dataset)


def _misfit(stage: str, dataset: Dataset) -> FieldProblem:
    expected = f"a dataset in the format {' or '.join(_FORMATS[stage])}"
    fitting = [name for name, formats in _FORMATS.items() if dataset.format in formats]
    message = (
        f"dataset {dataset.version} has the format {dataset.format}; stage {stage} needs {expected}"
    )
    if fitting:
        message += f" (its format fits stage {' or '.join(fitting)})"
    return FieldProblem("dataset_version", message, expected)


def _override_problems(spec: JobSpec) -> Iterator[FieldProblem]:
    for key in spec.overrides:
        if field := _FIELD_OF_KEY.get(key):
            message = f"overrides.{key} is the job's own field {field}"
            yield FieldProblem(f"overrides.{key}", message, f"the field {field}")
        elif key in FIXED or key in PLACES:
            message = f"overrides.{key} is always set by the daemon"
            yield FieldProblem(f"overrides.{key}", message, "leave it out")
        elif key not in ALLOWED:
            message = f"overrides.{key} is not among the keys a job may set"
            yield FieldProblem(f"overrides.{key}", message, "a key of docs/overrides.md")


def _evaluation_problems(spec: JobSpec, dataset: Dataset) -> Iterator[FieldProblem]:
    evaluates = spec.overrides.get("eval_strategy", "no") != "no" or spec.overrides.get("do_eval")
    if evaluates and dataset.validation_file is None and not spec.overrides.get("val_size"):
        message = f"dataset {dataset.version} has no validation file to evaluate on"
        yield FieldProblem("overrides.eval_strategy", message, "overrides.val_size, e.g. 0.1")


def _warnings(spec: JobSpec, recipe: Recipe, dataset: Dataset | None) -> Iterator[str]:
    if dataset is not None and spec.max_samples < dataset.rows:
        yield (
            f"only the first {spec.max_samples} of {dataset.rows} rows of {dataset.version} "
            "are used: max_samples"
        )
    kind = finetuning_type(spec, recipe)
    unused = [name for name in LORA_FIELDS if getattr(spec, name) is not None]
    if kind != "lora" and unused:
        yield f"{_without_effect(unused)}: finetuning_type is {kind}"
    if kind == "lora" and spec.adapter is not None and unused:
        yield f"{_without_effect(unused)}: the model's LoRA adapter is trained on as it is"
    if dataset is not None and _stage(spec, recipe) == "pt" and dataset.format != "text":
        # data/processor/pretrain.py reads the first message only
        answer = dataset.columns.get("response", "output")
        yield f"stage pt trains on the columns that ask; the {answer} column is not used"

    if dataset is not None and _stage(spec, recipe) == "pt":
        yield from _too_short_to_pack(spec, dataset)


def _too_short_to_pack(spec: JobSpec, dataset: Dataset) -> Iterator[str]:
    """data/processor/pretrain.py makes pieces of cutoff_len tokens of all rows, drops what is left
    over, and fails where that was all."""
    if spec.overrides.get("packing") is False:
        return
    files = {"rows": dataset.train_file, "validation rows": dataset.validation_file}
    for what, file in files.items():
        size = bytes_of(file)
        if size is not None and size < _BYTES_OF_A_TOKEN * spec.cutoff_len:
            yield (
                f"all {what} together may have less than cutoff_len ({spec.cutoff_len}) tokens, "
                "and stage pt then has nothing: lower cutoff_len, or set overrides.packing to false"
            )


def _without_effect(names: list[str]) -> str:
    return f"{', '.join(names)} {'have' if len(names) > 1 else 'has'} no effect"


def _stage(spec: JobSpec, recipe: Recipe) -> str:
    return str(spec.stage or recipe.get("stage") or "sft")
