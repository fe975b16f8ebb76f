"""What the native API takes: the request to train, its limits, and the trainer keys it may set."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)

from training_cluster.domain.spec import JobSpec

TRACKERS = ("mlflow", "wandb")


def _text(value: object) -> object:
    """Labels come as numbers too: `"lora_version": 2`."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else value


Label = Annotated[
    str,
    BeforeValidator(_text),
    StringConstraints(
        min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]*\S[^\x00-\x1f\x7f]*$"
    ),
]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Modules = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_.]+(,[A-Za-z0-9_.]+)*$", max_length=512)
]
Url = Annotated[str, StringConstraints(min_length=1, max_length=2048)]


def _backend(value: object) -> object:
    names = value if isinstance(value, list) else [value]
    known = TRACKERS if isinstance(value, list) else (*TRACKERS, "none")
    if not 0 < len(names) <= 8 or any(name not in known for name in names):
        raise ValueError("it is mlflow, wandb, none, or a list of mlflow and wandb")
    return value


# told as one rule: a union would name its own branches in every refusal
Backend = Annotated[
    str | list[str],
    BeforeValidator(_backend),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "enum": [*TRACKERS, "none"]},
                {
                    "type": "array",
                    "items": {"type": "string", "enum": list(TRACKERS)},
                    "minItems": 1,
                    "maxItems": 8,
                },
            ]
        }
    ),
]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, le=10_000_000)]
JobKey = Annotated[str, BeforeValidator(_text), StringConstraints(min_length=1, max_length=64)]


class Strict(BaseModel):
    """Unknown fields, NaN and infinities are refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Overrides(Strict):
    """Further LLaMA-Factory keys a request may set; whatever is not here is refused."""

    max_steps: Count | None = None
    warmup_ratio: Share | None = None
    warmup_steps: int | None = Field(None, ge=0, le=10_000_000)
    weight_decay: Share | None = None
    max_grad_norm: float | None = Field(None, ge=0, le=1000)
    adam_beta1: Share | None = None
    adam_beta2: Share | None = None
    adam_epsilon: float | None = Field(None, gt=0, le=1)
    lr_scheduler_type: (
        Literal[
            "linear",
            "cosine",
            "cosine_with_restarts",
            "polynomial",
            "constant",
            "constant_with_warmup",
            "inverse_sqrt",
        ]
        | None
    ) = None
    optim: Literal["adamw_torch", "adamw_torch_fused", "adafactor", "sgd", "adamw_8bit"] | None = (
        None
    )
    seed: int | None = Field(None, ge=0, le=2**32 - 1)
    logging_steps: int | None = Field(None, ge=1, le=100_000)
    save_total_limit: int | None = Field(None, ge=1, le=1000)
    eval_steps: Count | None = None
    eval_strategy: Literal["no", "steps", "epoch"] | None = None
    val_size: float | None = Field(None, ge=0, lt=1)
    per_device_eval_batch_size: int | None = Field(None, ge=1, le=4096)
    packing: bool | None = None
    neat_packing: bool | None = None
    train_on_prompt: bool | None = None
    mask_history: bool | None = None
    bf16: bool | None = None
    fp16: bool | None = None
    gradient_checkpointing: bool | None = None
    flash_attn: Literal["auto", "disabled", "sdpa", "fa2"] | None = None
    quantization_bit: Literal[4, 8] | None = None
    neftune_noise_alpha: float | None = Field(None, ge=0, le=100)
    use_rslora: bool | None = None
    use_dora: bool | None = None
    loraplus_lr_ratio: float | None = Field(None, gt=0, le=1000)
    freeze_trainable_layers: int | None = Field(None, ge=-1000, le=1000)
    pref_beta: Share | None = None
    pref_loss: Literal["sigmoid", "hinge", "ipo", "kto_pair", "orpo", "simpo"] | None = None
    pref_ftx: float | None = Field(None, ge=0, le=100)
    label_smoothing_factor: Share | None = None
    preprocessing_num_workers: int | None = Field(None, ge=1, le=64)
    dataloader_num_workers: int | None = Field(None, ge=0, le=64)


class Tracking(Strict):
    """Where the job's runs go at the trackers, where that is not the daemon's usual place."""

    project: Label | None = Field(None, description="W&B's project, MLflow's experiment.")
    entity: Label | None = Field(None, description="W&B's team or user.")
    experiment: Label | None = Field(None, description="MLflow's experiment, before `project`.")
    run_name: Label | None = Field(None, description="None: the job's name.")
    tags: list[Label] = Field(default_factory=list, max_length=32, description="Words to find it.")

    def said(self) -> dict[str, Any]:
        """What was said, without what was left open."""
        return {name: value for name, value in self.model_dump().items() if value}


class TrainRequest(Strict):
    """A training job. Only what differs from the defaults need be said."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model_name": "Qwen/Qwen2.5-1.5B-Instruct",
                    "lora_name": "initial-sft",
                    "lora_version": "2",
                    "dataset_version": "v1.0",
                    "template": "qwen",
                    "tracking_backend": "mlflow",
                }
            ]
        }
    )

    kind: Literal["train"] = "train"
    model_name: str = Field(
        "Qwen/Qwen2.5-1.5B-Instruct",
        min_length=1,
        max_length=1024,
        description="A hub id `owner/name`, or a directory below a configured model root.",
    )
    dataset_version: Name = Field("v1.0", description="A registered dataset version.")
    template: Name = Field("qwen", description="LLaMA-Factory's name of the prompt format.")
    recipe: Name = Field("lora_sft", description="A recipe of configs/recipes.")
    stage: Literal["sft", "dpo", "pt"] | None = Field(None, description="None: the recipe's.")
    finetuning_type: Literal["lora", "full", "freeze"] | None = Field(
        None, description="None: the recipe's."
    )
    cutoff_len: int = Field(2048, ge=8, le=1_048_576, description="Tokens an example is cut at.")
    max_samples: Count = Field(1000, description="Examples used at most.")
    batch_size: int = Field(1, ge=1, le=4096, description="Examples per device and step.")
    gradient_accumulation_steps: int = Field(2, ge=1, le=4096)
    save_steps: Count = Field(500, description="Optimizer steps between checkpoints.")
    learning_rate: float = Field(
        2.0e-5, gt=0, le=10, description='A number or a numeric string such as "2.0e-5".'
    )
    num_epochs: float = Field(3.0, gt=0, le=10_000)
    lora_rank: int | None = Field(None, ge=1, le=1024)
    lora_alpha: int | None = Field(None, ge=1, le=8192)
    lora_dropout: float | None = Field(None, ge=0, lt=1)
    lora_target: Modules | None = Field(None, description="Comma-separated modules, or `all`.")
    additional_target: Modules | None = Field(
        None, description="Modules trained in full beside LoRA, comma-separated."
    )
    tracking_backend: Backend = Field("wandb", description="Who is told of the metrics.")
    tracking: Tracking | None = None
    webhook_url: Url | None = Field(
        None, description="Who is told of this job: a Slack webhook, or a receiver of signed JSON."
    )
    lora_name: Label | None = Field(None, description="A label, never a path.")
    lora_version: Label | None = Field(None, description="A label, never a path.")
    save_name: Label | None = Field(None, description="A label, never a path.")
    gpus: int = Field(1, ge=1, le=64, description="Devices, all of them or none.")
    min_gpu_memory: float | None = Field(
        None, gt=0, le=4096, description="GiB each device must have in total."
    )
    priority: int = Field(0, ge=-100, le=100, description="Higher goes first.")
    max_seconds: float | None = Field(
        None, gt=0, le=30 * 86400, description="An attempt that runs longer is stopped."
    )
    max_retries: int = Field(0, ge=0, le=10)
    depends_on: list[JobKey] = Field(
        default_factory=list, max_length=64, description="Jobs that must complete first."
    )
    overrides: Overrides = Field(default_factory=Overrides)

    def to_spec(self) -> JobSpec:
        """The domain's form of this request."""
        apart = {"overrides", "depends_on", "tracking_backend", "tracking"}
        values: dict[str, Any] = self.model_dump(exclude=apart)
        backend = self.tracking_backend
        return JobSpec(
            **values,
            depends_on=tuple(self.depends_on),
            overrides=self.overrides.model_dump(exclude_none=True),
            tracking_backend=backend if isinstance(backend, str) else tuple(dict.fromkeys(backend)),
            tracking=self.tracking.said() if self.tracking is not None else {},
        )

    def warnings(self, trackers: Collection[str]) -> tuple[str, ...]:
        """What was asked for explicitly and cannot be honoured; `trackers` are those served."""
        if "tracking_backend" not in self.model_fields_set:
            return ()
        return tuple(
            f"tracking_backend {name!r} is not served here (served: "
            f"{', '.join(sorted(trackers)) or 'none'}); the daemon keeps the metrics all the same"
            for name in self.to_spec().trackers
            if name not in trackers
        )


class HoldRequest(Strict):
    """A person keeping a device out of the queue."""

    reason: Label = Field(examples=["debugging a notebook"])
    seconds: float | None = Field(None, gt=0, le=30 * 86400, description="None: until released.")
