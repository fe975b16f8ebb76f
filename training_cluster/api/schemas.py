"""What the native API takes: the request to train, its limits, and the trainer keys it may set."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)

from training_cluster.api.overrides import Count, Overrides
from training_cluster.api.strict_model import Strict
from training_cluster.domain.spec import JobSpec

TRACKERS = ("mlflow", "wandb")


def _text(value: object) -> object:
    """Labels come as numbers too: `"lora_version": 2`."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else value


# no control characters, no breaks of lines, nothing that turns the direction of reading
_UNSEEN = r"\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069"
LABEL_PATTERN = rf"^[^{_UNSEEN}]*[^\s{_UNSEEN}][^{_UNSEEN}]*$"
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
DATASET_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}(@[A-Za-z0-9][A-Za-z0-9._-]{0,63})?$"
MODULES_PATTERN = r"^[A-Za-z0-9_.]+(,[A-Za-z0-9_.]+)*$"
HUB_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$"
HUB_DATASET_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?$"
REVISION_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$"
HUB_TOKEN_PATTERN = r"^[A-Za-z0-9_.-]{1,256}$"  # noqa: S105

Label = Annotated[
    str,
    BeforeValidator(_text),
    StringConstraints(min_length=1, max_length=128, pattern=LABEL_PATTERN),
]
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
DatasetKey = Annotated[str, StringConstraints(pattern=DATASET_PATTERN)]
Revision = Annotated[str, StringConstraints(pattern=REVISION_PATTERN)]
HubToken = Annotated[str, StringConstraints(pattern=HUB_TOKEN_PATTERN)]
Modules = Annotated[str, StringConstraints(pattern=MODULES_PATTERN, max_length=512)]
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
JobKey = Annotated[str, BeforeValidator(_text), StringConstraints(min_length=1, max_length=64)]


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
        description="A hub id `owner/name`, a directory below a model root, a registered "
        "model `name@version`, or the checkpoint of a job that is over, `job:7@step-100`.",
    )
    dataset_version: DatasetKey = Field(
        "v1.0",
        description="A version registered in a folder, or a dataset that was handed in: "
        "`name@version`, a name, or an id.",
    )
    template: Name = Field("qwen", description="LLaMA-Factory's name of the prompt format.")
    recipe: Name = Field("lora_sft", description="A recipe of configs/recipes.")
    stage: Literal["sft", "dpo", "kto", "pt"] | None = Field(
        None, description="None: the recipe's."
    )
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


class QuarantineRequest(Strict):
    """An admin keeping a device out of the queue until somebody releases it."""

    reason: Label = Field(examples=["its fan is loud"])


class ToleranceRequest(Strict):
    """An admin waving foreign memory through."""

    reason: Label = Field(examples=["a stale process of a display server"])
    memory_mib: int = Field(gt=0, le=1 << 20, description="So much may be in use by others.")
    seconds: float | None = Field(
        None, gt=0, le=366 * 86400, description="None: until it is taken back."
    )


class HoldRequest(Strict):
    """A person keeping a device out of the queue."""

    reason: Label = Field(examples=["debugging a notebook"])
    seconds: float | None = Field(None, gt=0, le=30 * 86400, description="None: until released.")
