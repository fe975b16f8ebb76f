"""What somebody asked for: the validated, immutable description of a job."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from training_cluster.domain.plain import plain

GIB = 1024**3

TRAIN, EXPORT, EVALUATE, DOWNLOAD = "train", "export", "evaluate", "download"
"""The kinds of jobs."""

Override = bool | int | float | str | list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """A training job as its owner described it, defaults filled in.

    Durations are seconds, memory is GiB as in the API; `overrides` are further trainer keys that
    the API has already held against its allow-list. Labels (`lora_name`, `lora_version`,
    `save_name`) are never used as paths. None means "the recipe decides". `tracking` says where
    the runs go (project, entity, experiment, run_name, tags) when it is not the settings' place.
    `webhook_url` is masked: the address lies in a file of its own.

    A job that does not need a device runs without a lease. `model_id` is the registered model it
    starts from, `adapter` the folder of that model's LoRA adapter, which goes on `model_name`;
    `checkpoint`, a job's id and `@step-` with a number, is where the adapter comes from when it is
    no model's.
    `options` are what kinds other than train are told beside that.
    """

    kind: str = TRAIN
    needs_device: bool = True
    model_id: str | None = None
    adapter: str | None = None
    checkpoint: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    model_name: str = "Qwen/Qwen2.5-1.5B-Instruct"
    dataset_version: str = "v1.0"
    template: str = "qwen"
    recipe: str = "lora_sft"
    stage: str | None = None
    finetuning_type: str | None = None
    cutoff_len: int = 2048
    max_samples: int = 1000
    batch_size: int = 1
    gradient_accumulation_steps: int = 2
    save_steps: int = 500
    learning_rate: float = 2.0e-5
    num_epochs: float = 3.0
    lora_rank: int | None = None
    lora_alpha: int | None = None
    lora_dropout: float | None = None
    lora_target: str | None = None
    additional_target: str | None = None
    tracking_backend: str | tuple[str, ...] = "wandb"
    tracking: dict[str, Any] = field(default_factory=dict)
    webhook_url: str | None = None
    lora_name: str | None = None
    lora_version: str | None = None
    save_name: str | None = None
    gpus: int = 1
    min_gpu_memory: float | None = None
    priority: int = 0
    max_seconds: float | None = None
    max_retries: int = 0
    depends_on: tuple[str, ...] = ()
    overrides: dict[str, Override] = field(default_factory=dict)

    @property
    def uses_dataset(self) -> bool:
        """Whether the rows of the dataset are read."""
        return self.kind == TRAIN or (self.kind == EVALUATE and not self.options.get("prompts"))

    @property
    def trackers(self) -> tuple[str, ...]:
        """The trackers that are told of this job."""
        asked = self.tracking_backend
        names = (asked,) if isinstance(asked, str) else asked
        return tuple(name for name in dict.fromkeys(names) if name != "none")

    @property
    def name(self) -> str:
        """What people call the job: the label they gave it, else its model."""
        label = self.save_name or self.lora_name
        if label is None:
            return self.model_name.rstrip("/").rpartition("/")[2]
        return f"{label}-{self.lora_version}" if self.lora_version and not self.save_name else label

    @property
    def min_memory_bytes(self) -> int:
        """The least total memory a device of this job must have, in bytes."""
        return int((self.min_gpu_memory or 0) * GIB)

    def to_json(self) -> str:
        """The form in which the store keeps a spec."""
        return _encode(plain(self))

    @classmethod
    def from_json(cls, text: str) -> JobSpec:
        """Read a stored spec; keys of other versions of this program are ignored."""
        return cls.stored(json.loads(text))

    @classmethod
    def stored(cls, raw: dict[str, Any]) -> JobSpec:
        """A spec out of its parsed JSON, which it keeps parts of."""
        if not raw.keys() >= cls.__dataclass_fields__.keys():
            raw = plain(cls()) | raw
        raw["depends_on"] = tuple(raw["depends_on"])
        if isinstance(raw["tracking_backend"], list):
            raw["tracking_backend"] = tuple(raw["tracking_backend"])
        spec = object.__new__(cls)
        for name in cls.__dataclass_fields__:  # four times as fast as __init__ of a frozen class
            _set(spec, name, raw[name])
        return spec


_encode = json.JSONEncoder(separators=(",", ":")).encode
_set = object.__setattr__
