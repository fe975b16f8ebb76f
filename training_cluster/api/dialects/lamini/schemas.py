"""What Lamini's clients send, as their documents and packages have it.

Explicit nulls mean "not said". Keys that no document has are taken too: `unknown` names them, so
that the answer can say which of them had no effect.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints

from training_cluster.api.overrides import Count
from training_cluster.api.schemas import Label
from training_cluster.api.strict_model import Strict

Optimizer = Literal[
    "adamw_hf",
    "adamw_torch",
    "adamw_torch_fused",
    "adamw_apex_fused",
    "adamw_anyprecision",
    "adafactor",
]
_SHOWN = 40
_NAMED = 16

Index = Literal["IndexIVFPQ", "IndexHNSWPQ", "IndexHNSWFlat", "IndexFlatL2", "IndexPQ"]


class Lenient(Strict):
    """A body in which keys that nobody documented are taken."""

    model_config = ConfigDict(extra="allow")

    @property
    def unknown(self) -> dict[str, Any]:
        """What was said that is no documented key, nulls left out."""
        extra = self.model_extra or {}
        return {name: value for name, value in extra.items() if value is not None}

    def left_out(self) -> list[str]:
        """A sentence that names what was said and is no documented key, if there is any."""
        return without_effect(self.unknown)


def without_effect(names: Iterable[str], where: str = "") -> list[str]:
    """A sentence on keys, within `where`, that nobody here knows; none without keys."""
    said = ", ".join(f"{where}{name[:_SHOWN]}" for name in sorted(names)[:_NAMED])
    return [f"{said} had no effect: nothing here goes by that name"] if said else []


class FinetuneArgs(Lenient):
    """The arguments of the training. What is left out has Lamini's documented default; the keys of
    the index belong to memory tuning, which is not done here."""

    max_steps: Count | None = Field(None, description="Optimizer steps in all. Default: 100.")
    learning_rate: float | None = Field(None, gt=0, le=10, description="Default: 9e-4.")
    save_steps: int | float | None = Field(
        None,
        gt=0,
        le=10_000_000,
        description="Steps between checkpoints; below 1 a share of all steps. Default: 60.",
    )
    max_finetuning_examples: Count | None = Field(
        None, description="Examples used at most. Default: all."
    )
    gradient_accumulation_steps: int | None = Field(None, ge=1, le=4096, description="Default: 2.")
    max_length: int | None = Field(
        None, ge=8, le=1_048_576, description="Tokens an example is cut at. Default: 2048."
    )
    optim: Optimizer | None = Field(None, description="The optimizer. Default: adafactor.")
    r_value: int | None = Field(None, ge=1, le=1024, description="LoRA's rank. Default: 64.")
    index_method: Index | None = Field(None, description="Of memory tuning: no effect.")
    index_k: int | None = Field(None, description="Of memory tuning: no effect.")
    index_max_size: int | None = Field(None, description="Of memory tuning: no effect.")
    index_pq_m: int | None = Field(None, description="Of memory tuning: no effect.")
    index_pq_nbits: int | None = Field(None, description="Of memory tuning: no effect.")
    index_ivf_nlist: int | None = Field(None, description="Of memory tuning: no effect.")
    index_ivf_nprobe: int | None = Field(None, description="Of memory tuning: no effect.")
    index_hnsw_m: int | None = Field(None, description="Of memory tuning: no effect.")
    index_hnsw_efConstruction: int | None = Field(None, description="Of memory tuning: no effect.")
    index_hnsw_efSearch: int | None = Field(None, description="Of memory tuning: no effect.")


class GpuConfig(Lenient):
    """What the job is to run on. 0, the documented default, leaves it to the daemon: one device."""

    gpus: int | None = Field(None, ge=0, le=1024, description="GPUs of each node.")
    nodes: int | None = Field(None, ge=0, le=1024, description="Nodes; this machine is one.")
    min_gpu_memory: float | None = Field(
        None, gt=0, le=4096, description="GiB each GPU must have. Ours, not Lamini's."
    )


class PeftArgs(Lenient):
    """How LoRA is set up, in the words of lamini 2."""

    r: int | None = Field(None, ge=1, le=1024)
    lora_alpha: int | None = Field(None, ge=1, le=8192)
    lora_dropout: float | None = Field(None, ge=0, lt=1)
    target_modules: list[str] | str | None = None


class TrainPayload(Lenient):
    """A training job: a model and either a dataset or the data itself."""

    model_name: str = Field(
        min_length=1,
        max_length=1024,
        description="A hub id, a directory below a model root, or a tuned model of this daemon.",
        examples=["meta-llama/Llama-3.2-3B-Instruct"],
    )
    dataset_id: str | None = Field(None, max_length=200, description="As an upload answered.")
    upload_file_path: str | None = Field(
        None, max_length=2048, description="A dataset_location this daemon has handed out."
    )
    finetune_args: FinetuneArgs | None = None
    gpu_config: GpuConfig | None = None
    custom_model_name: Label | None = Field(None, description="Names the model.")
    is_public: bool | None = Field(None, description="Let everybody here use data and model.")
    train_type: Literal["memory_tuning", "mome_mini", "memory_rag"] | None = None
    enable_peft: bool | None = Field(None, description="lamini 2: false trains all weights.")
    peft_args: PeftArgs | None = Field(None, description="lamini 2.")
    use_cached_model: bool | None = Field(None, description="lamini 2: no effect.")
    id: str | None = Field(None, max_length=200, description="No effect.")
    source: dict[str, Any] | None = Field(None, description="No effect.")


class DownloadPayload(Lenient):
    """A base model to fetch from the hub."""

    hf_model_name: str = Field(
        min_length=1,
        max_length=200,
        description="A hub id `owner/name`.",
        examples=["meta-llama/Llama-3.2-3B-Instruct"],
    )
    model_type: Literal["transformer", "embedding"] | None = Field(
        None, description="Default: transformer. What is fetched does not depend on it."
    )
    private_hf_token: (
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,256}$")] | None
    ) = Field(
        None,
        repr=False,
        description="For a private model. Kept until the download is over, and never shown.",
    )
