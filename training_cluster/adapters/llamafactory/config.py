"""Builds LLaMA-Factory's training configuration: recipe, then the job's fields, then ours."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from training_cluster.adapters.llamafactory.datasets import train_name, validation_name
from training_cluster.adapters.llamafactory.recipes import Recipe
from training_cluster.domain.device import DeviceKind
from training_cluster.domain.errors import FieldProblem, InvalidRequest
from training_cluster.domain.spec import JobSpec
from training_cluster.ports import Assignment, Dataset

# Job field -> trainer key; fields that are None leave the recipe's value.
FIELDS: Mapping[str, str] = {
    "model_name": "model_name_or_path",
    "template": "template",
    "stage": "stage",
    "finetuning_type": "finetuning_type",
    "cutoff_len": "cutoff_len",
    "max_samples": "max_samples",
    "batch_size": "per_device_train_batch_size",
    "gradient_accumulation_steps": "gradient_accumulation_steps",
    "save_steps": "save_steps",
    "learning_rate": "learning_rate",
    "num_epochs": "num_train_epochs",
}
LORA_FIELDS: Mapping[str, str] = {
    name: name
    for name in ("lora_rank", "lora_alpha", "lora_dropout", "lora_target", "additional_target")
}
# What a request may override: api/overrides.py has types and bounds, and the reasons in words.
ALLOWED = frozenset(
    {
        *("max_steps", "warmup_ratio", "warmup_steps", "weight_decay", "max_grad_norm"),
        *("adam_beta1", "adam_beta2", "adam_epsilon", "lr_scheduler_type", "optim"),
        *("seed", "logging_steps", "save_total_limit", "eval_steps", "eval_strategy"),
        *("val_size", "per_device_eval_batch_size", "packing", "neat_packing"),
        *("train_on_prompt", "mask_history", "bf16", "fp16", "gradient_checkpointing"),
        *("flash_attn", "quantization_bit", "neftune_noise_alpha", "use_rslora"),
        *("use_dora", "loraplus_lr_ratio", "freeze_trainable_layers", "pref_beta"),
        *("pref_loss", "pref_ftx", "label_smoothing_factor", "preprocessing_num_workers"),
        "dataloader_num_workers",
    }
)
# What a recipe or an override can never change.
FIXED: Mapping[str, Any] = {
    "do_train": True,
    "enable_jit_checkpoint": True,
    "overwrite_output_dir": True,
    "report_to": "none",
    "save_only_model": False,
    "trust_remote_code": False,
}
PLACES = frozenset({"dataset", "dataset_dir", "eval_dataset", "output_dir"})

_JSON = json.JSONEncoder(ensure_ascii=False)
_PRECISIONS = ("bf16", "fp16", "pure_bf16", "fp8")


def training_config(
    spec: JobSpec, recipe: Recipe, dataset: Dataset, assignment: Assignment
) -> dict[str, Any]:
    """The whole configuration of one attempt. Raises InvalidRequest for interpolations, and for
    overrides that are not allowed, wherever they came from."""
    if foreign := spec.overrides.keys() - ALLOWED - FIXED.keys() - PLACES:
        raise InvalidRequest(f"overrides may not set {', '.join(sorted(foreign))}")
    chosen = decided(spec, recipe)
    config = {
        **_defaults(spec, chosen, dataset, assignment),
        **chosen,
        **FIXED,
        "dataset": train_name(dataset),
        "dataset_dir": str(assignment.directory),
        "output_dir": str(assignment.directory / "output"),
    }
    if spec.adapter is not None:
        config["adapter_name_or_path"] = spec.adapter
    if assignment.resume_from is not None:
        config["resume_from_checkpoint"] = str(assignment.resume_from.path)
    if not _on_gpu(assignment):
        config.update(bf16=False, fp16=False)
    refuse_interpolations(config)
    return config


def decided(spec: JobSpec, recipe: Recipe) -> dict[str, Any]:
    """The recipe's values under the job's fields under its overrides."""
    return {**recipe, **_from_spec(spec, recipe), **spec.overrides}


def finetuning_type(spec: JobSpec, recipe: Recipe) -> str:
    """The job's finetuning type; LLaMA-Factory's own default is lora."""
    return str(spec.finetuning_type or recipe.get("finetuning_type") or "lora")


def refuse_interpolations(config: Mapping[str, Any]) -> None:
    """Raise InvalidRequest when a string holds `${`, which OmegaConf would resolve: a request
    could read the trainer's environment."""
    for key, value in config.items():
        if isinstance(value, str | list | dict) and "${" in _JSON.encode(value):
            message = f"{key} contains '${{', which the trainer would interpolate"
            problem = FieldProblem(_field_of(key), message, "text without '${'")
            raise InvalidRequest(message, problems=(problem,))


def yaml_text(content: Mapping[str, Any]) -> str:
    """JSON text that YAML reads the same: YAML refuses some characters, and takes \\u escapes
    of surrogate pairs for two characters."""
    lines = (f"{_JSON.encode(key)}: {_JSON.encode(value)}" for key, value in content.items())
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    return re.sub(r"[\x7f-\uffff]", lambda found: f"\\u{ord(found[0]):04x}", text)


def _from_spec(spec: JobSpec, recipe: Recipe) -> dict[str, Any]:
    names = dict(FIELDS)
    if finetuning_type(spec, recipe) == "lora":
        names.update(LORA_FIELDS)
    values = ((key, getattr(spec, field)) for field, key in names.items())
    return {key: value for key, value in values if value is not None}


def _defaults(
    spec: JobSpec, chosen: Mapping[str, Any], dataset: Dataset, assignment: Assignment
) -> dict[str, Any]:
    defaults: dict[str, Any] = {
        "logging_steps": _logging_steps(spec, dataset, len(assignment.devices)),
        "plot_loss": True,
        # packed examples that do not see one another have no mask that could be summed
        "include_num_input_tokens_seen": "all" if chosen.get("neat_packing") else "non_padding",
    }
    if _on_gpu(assignment) and not any(key in chosen for key in _PRECISIONS):
        defaults["bf16"] = True
    if dataset.validation_file is not None and "val_size" not in chosen:
        defaults["eval_dataset"] = validation_name(dataset)
        defaults["eval_strategy"] = "steps" if "eval_steps" in chosen else "epoch"
        defaults["per_device_eval_batch_size"] = spec.batch_size
    return defaults


def _logging_steps(spec: JobSpec, dataset: Dataset, devices: int) -> int:
    """About a hundred points a run, but at least every tenth step."""
    rows = min(dataset.rows, spec.max_samples)
    rows_per_step = spec.batch_size * spec.gradient_accumulation_steps * max(devices, 1)
    steps = math.ceil(rows / rows_per_step) * spec.num_epochs
    return max(1, min(10, int(steps / 100)))


def _on_gpu(assignment: Assignment) -> bool:
    return any(device.kind is not DeviceKind.CPU for device in assignment.devices)


def _field_of(key: str) -> str:
    named = {key: field for field, key in FIELDS.items()} | dict(LORA_FIELDS)
    return named.get(key, f"overrides.{key}")
