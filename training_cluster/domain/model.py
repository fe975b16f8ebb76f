"""Models: what jobs left behind, under a name and a version, with where they come from."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from training_cluster.domain.ids import is_job_id

_LONGEST = 96
_NOT_IN_LABELS = re.compile(r"[^\w.+-]+")
_COUNTED = re.compile(r"[vV]?0*(\d{1,9})")
_FIGURES = ("first_loss", "final_loss", "train_loss", "eval_loss", "steps", "tokens")


class ModelKind(StrEnum):
    """What a model consists of."""

    ADAPTER = "adapter"  # a LoRA adapter, to be put on its base model
    FULL = "full"  # all weights, trained
    MERGED = "merged"  # all weights: a LoRA adapter merged into its base model


KIND_OF_RESULT = {
    "lora_adapter": ModelKind.ADAPTER,
    "full_model": ModelKind.FULL,
    "merged_model": ModelKind.MERGED,
}
"""What a job's result calls it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A registered model. `name` and `version` hold no slash and no `@`; `number` counts models.

    `parent_id` is the model it was made from, `dataset_sha256` the content it was trained on;
    `config` is the job's configuration and `metrics` the figures of its result. `path` is the
    folder of its `files`. Times are Unix seconds; of a deleted model only the record is left."""

    id: str
    number: int
    name: str
    version: str
    user: str
    kind: ModelKind
    base_model: str
    job_id: str
    job_number: int
    attempt: int
    path: str
    size_bytes: int
    files: tuple[str, ...]
    created_at: float
    dataset: str | None = None
    dataset_sha256: str | None = None
    parent_id: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    is_public: bool = False
    aliases: tuple[str, ...] = ()
    deleted_at: float | None = None

    @property
    def key(self) -> str:
        """What people call it: `name@version`."""
        return f"{self.name}@{self.version}"


def label(text: str) -> str:
    """A text as a name or version: letters, digits, `.`, `_`, `+` and `-`; empty if nothing of
    it can be used."""
    plain = _NOT_IN_LABELS.sub("-", unicodedata.normalize("NFKC", text))
    return plain.strip("-.")[:_LONGEST].rstrip("-.")


def model_name(text: str) -> str:
    """A text as the name of a model, which can be taken neither for a number nor for an id."""
    name = label(text)
    return f"model-{name}" if not name or name.isdigit() or is_job_id(name.lower()) else name


def version_name(text: str) -> str:
    """A text as a version: `2` and `V2` are `v2`."""
    name = label(text)
    counted = _COUNTED.fullmatch(name)
    return f"v{counted[1]}" if counted else name


def counted_version(version: str) -> int:
    """The number of a version such as v2; 0 for another."""
    counted = _COUNTED.fullmatch(version)
    return int(counted[1]) if counted else 0


def is_version(text: str) -> bool:
    """Whether a text can be taken for a counted version."""
    return _COUNTED.fullmatch(text) is not None


def default_name(base_model: str, job_number: int) -> str:
    """The name of a model nobody gave one: that of its base and the number of its job."""
    return model_name(f"{base_model.rstrip('/').rpartition('/')[2]}-{job_number}")


def figures(result: Mapping[str, Any]) -> dict[str, float]:
    """The figures of a job's result that a model is known by."""
    return {name: result[name] for name in _FIGURES if isinstance(result.get(name), int | float)}
