"""Lamini's arguments of a training as fields of a job and keys of the trainer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from training_cluster.api.dialects.lamini.schemas import FinetuneArgs, PeftArgs, without_effect
from training_cluster.api.overrides import Overrides
from training_cluster.api.schemas import TrainRequest

# what Lamini's document says is done where nothing is said
DEFAULTS: Mapping[str, Any] = {
    "max_steps": 100,
    "learning_rate": 9e-4,
    "save_steps": 60,
    "max_finetuning_examples": 10_000_000,
    "gradient_accumulation_steps": 2,
    "max_length": 2048,
    "optim": "adafactor",
    "r_value": 64,
}
FIELDS: Mapping[str, str] = {
    "learning_rate": "learning_rate",
    "save_steps": "save_steps",
    "max_finetuning_examples": "max_samples",
    "gradient_accumulation_steps": "gradient_accumulation_steps",
    "max_length": "cutoff_len",
    "r_value": "lora_rank",
}
OVERRIDES: Mapping[str, str] = {"max_steps": "max_steps", "optim": "optim"}
# what nobody documented and scripts say all the same, as Hugging Face or we call it
KNOWN: Mapping[str, str] = {
    "num_train_epochs": "num_epochs",
    "num_epochs": "num_epochs",
    "epochs": "num_epochs",
    "per_device_train_batch_size": "batch_size",
    "batch_size": "batch_size",
    "lora_alpha": "lora_alpha",
    "lora_dropout": "lora_dropout",
    "lora_target": "lora_target",
    "additional_target": "additional_target",
    "template": "template",
}
_INSTEAD = {
    "adamw_hf": "adamw_torch",
    "adamw_apex_fused": "adamw_torch_fused",
    "adamw_anyprecision": "adamw_torch",
}
_EPOCHS_UNUSED = "the epochs in finetune_args had no effect: max_steps is said, too, and counts"
_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Tuning:
    """What was asked for in our words: `fields` of the job, `overrides` of the trainer's keys, and
    `warnings`, sentences on what has no effect or another."""

    fields: dict[str, Any] = field(default_factory=dict)
    overrides: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def tuning(args: FinetuneArgs | None) -> Tuning:
    """The arguments, with Lamini's documented defaults where nothing is said."""
    given = args or FinetuneArgs()
    found = Tuning()
    _take_unknown(given.unknown, found)
    said = given.model_dump(include=set(DEFAULTS), exclude_none=True)
    values = {**DEFAULTS, **said}
    if "num_epochs" in found.fields:
        if "max_steps" in said:
            found.warnings.append(_EPOCHS_UNUSED)
            del found.fields["num_epochs"]
        else:
            del values["max_steps"]
    values["save_steps"] = _save_steps(values, found)
    values["optim"] = _optimizer(values["optim"], found)
    found.fields.update({ours: values[theirs] for theirs, ours in FIELDS.items()})
    found.overrides.update(
        {ours: values[theirs] for theirs, ours in OVERRIDES.items() if theirs in values}
    )
    found.warnings.extend(_of_the_index(given))
    return found


def peft(enabled: bool | None, args: PeftArgs | None, found: Tuning) -> None:
    """Put what lamini 2 says of LoRA into a tuning."""
    if enabled is not None:
        found.fields["finetuning_type"] = "lora" if enabled else "full"
    if enabled is False:
        for name in ("lora_rank", "lora_alpha", "lora_dropout", "lora_target"):
            found.fields.pop(name, None)
        if args is not None:
            found.warnings.append("peft_args had no effect: enable_peft is false")
    elif args is not None:
        _take_peft(args, found)


def _take_peft(args: PeftArgs, found: Tuning) -> None:
    said = {
        "r": ("lora_rank", args.r),
        "lora_alpha": ("lora_alpha", args.lora_alpha),
        "lora_dropout": ("lora_dropout", args.lora_dropout),
        "target_modules": ("lora_target", _modules(args.target_modules)),
    }
    for name, (ours, value) in said.items():
        if value is not None:
            _take(ours, value, f"peft_args.{name}", found)
    found.warnings.extend(without_effect(args.unknown, "peft_args."))


def _take_unknown(unknown: Mapping[str, Any], found: Tuning) -> None:
    left = {}
    for name, value in unknown.items():
        if name in KNOWN:
            _take(KNOWN[name], value, f"finetune_args.{name}", found)
        elif name in Overrides.model_fields:
            _override(name, value, found)
        else:
            left[name] = value
    found.warnings.extend(without_effect(left, "finetune_args."))


def _take(field_name: str, value: Any, said: str, found: Tuning) -> None:
    """Take a field of the job where its value can be used, else say that it cannot."""
    try:
        found.fields[field_name] = _checked(field_name, value)
    except ValidationError as error:
        found.warnings.append(_refused(said, value, error))


def _checked(field_name: str, value: Any) -> Any:
    """The value as the native API would take it. Raises ValidationError."""
    return getattr(TrainRequest.model_validate({field_name: value}), field_name)


def _override(name: str, value: Any, found: Tuning) -> None:
    try:
        found.overrides[name] = getattr(Overrides.model_validate({name: value}), name)
    except ValidationError as error:
        found.warnings.append(_refused(f"finetune_args.{name}", value, error))


def _refused(said: str, value: Any, error: ValidationError) -> str:
    why = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
    return f"{said} had no effect: {_short(value)} cannot be used ({why})"


def _save_steps(values: Mapping[str, Any], found: Tuning) -> int:
    """In steps; below 1 it is a share of all steps, of which there may be no number."""
    asked: float = values["save_steps"]
    if asked >= 1:
        return int(asked)
    if "max_steps" in values:
        return max(1, math.ceil(asked * int(values["max_steps"])))
    default = int(DEFAULTS["save_steps"])
    found.warnings.append(
        f"finetune_args.save_steps had no effect: {asked} is a share of the steps, and without "
        f"max_steps nobody knows how many there will be; a checkpoint is saved every {default}"
    )
    return default


def _optimizer(asked: str, found: Tuning) -> str:
    used = _INSTEAD.get(asked, asked)
    if used != asked:
        found.warnings.append(f"finetune_args.optim {asked} is not there: {used} is used")
    return used


def _of_the_index(args: FinetuneArgs) -> Iterator[str]:
    said = [name for name in args.model_fields_set if name.startswith("index_")]
    said = sorted(name for name in said if getattr(args, name) is not None)
    if said:
        yield (
            f"{', '.join(f'finetune_args.{name}' for name in said)} had no effect: memory tuning's "
            "index of experts is not built here, one LoRA adapter is trained"
        )


def _modules(said: list[str] | str | None) -> str | None:
    return ",".join(said) if isinstance(said, list) else said


def _short(value: Any) -> str:
    text = TypeAdapter(Any).dump_json(value).decode()
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
