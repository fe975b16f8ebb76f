"""OpenAI's hyperparameters in our words, and back.

Its batch is what one optimizer step sees: what a device takes at a time is left as it is, and
gradients are accumulated until all devices have seen as many. Its learning rate is a multiple of
what is usual; here that is the rate a native job has by default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from training_cluster.domain.errors import FieldProblem, InvalidRequest
from training_cluster.domain.spec import JobSpec

AUTO = "auto"
DPO_RECIPE = "dpo"
_NATIVE = JobSpec()
USUAL_RATE = _NATIVE.learning_rate
ALL_ROWS = 10_000_000

Number = int | float


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """What was asked for; None is what OpenAI calls "auto". `batch_size` is examples per
    optimizer step; `beta` counts for preferences alone."""

    n_epochs: Number | None = None
    batch_size: int | None = None
    learning_rate_multiplier: Number | None = None
    beta: Number | None = None

    @property
    def automatic(self) -> list[str]:
        """Names of those left to us."""
        names = ("n_epochs", "batch_size", "learning_rate_multiplier", "beta")
        return [name for name in names if getattr(self, name) is None]


@dataclass(frozen=True, slots=True)
class Share:
    """What native fields decide: how many devices there are, and how many examples one takes at
    once."""

    devices: int = 1
    examples: int = 1

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Share:
        """Of the native fields of a request; what cannot be is refused with them, elsewhere."""
        return cls(_count(fields.get("gpus")), _count(fields.get("batch_size")))

    def accumulated(self, batch_size: int) -> int:
        """Over how many passes gradients are accumulated for a batch. Raises InvalidRequest."""
        together = self.devices * self.examples
        if batch_size % together == 0:
            return batch_size // together
        message = f"{batch_size} examples are not shared evenly by devices that take {together}"
        problem = FieldProblem("hyperparameters.batch_size", message, f"a multiple of {together}")
        raise InvalidRequest(message, problems=(problem,))


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 1


def native(asked: Hyperparameters, share: Share) -> dict[str, Any]:
    """The native fields that differ from their defaults. Raises InvalidRequest."""
    fields: dict[str, Any] = {"max_samples": ALL_ROWS}
    if asked.n_epochs is not None:
        fields["num_epochs"] = float(asked.n_epochs)
    if asked.batch_size is not None:
        fields["batch_size"] = share.examples
        fields["gradient_accumulation_steps"] = share.accumulated(asked.batch_size)
    if asked.learning_rate_multiplier is not None:
        fields["learning_rate"] = USUAL_RATE * asked.learning_rate_multiplier
    return fields


def shown(spec: JobSpec) -> dict[str, Any]:
    """What a job is trained with, every "auto" resolved."""
    return {
        "n_epochs": _short(spec.num_epochs),
        "batch_size": spec.batch_size * spec.gradient_accumulation_steps * spec.gpus,
        "learning_rate_multiplier": _short(spec.learning_rate / USUAL_RATE),
    }


def method(spec: JobSpec) -> dict[str, Any]:
    """The method of a job as OpenAI shows it, also of one that came another way."""
    if spec.recipe != DPO_RECIPE and spec.stage != "dpo":
        return {"type": "supervised", "supervised": {"hyperparameters": shown(spec)}}
    values = shown(spec)
    beta = spec.overrides.get("pref_beta")
    values["beta"] = _short(beta) if isinstance(beta, int | float) else AUTO
    return {"type": "dpo", "dpo": {"hyperparameters": values}}


def beta_of(settings: Mapping[str, Any]) -> Number | None:
    """The beta a recipe says, by the trainer's name; None where it leaves it to the trainer."""
    said = settings.get("pref_beta")
    is_number = isinstance(said, int | float) and not isinstance(said, bool)
    return said if is_number else None


def _short(value: Number) -> Number:
    """A float as people write it: no digits that are only the machine's, whole numbers whole."""
    rounded = float(f"{value:.12g}")
    return int(rounded) if rounded.is_integer() else rounded
