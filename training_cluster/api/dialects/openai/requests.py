"""What OpenAI's clients send: checked where it counts, lenient where it does not.

Fields nobody here knows are taken and told of, because the next version of an SDK sends some.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)

from training_cluster.api.schemas import LABEL_PATTERN, Label
from training_cluster.api.strict_model import Strict

_MOST_METADATA = 16


class Lenient(Strict):
    """A part of a request that may say more than we know."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    def unknown(self, inside: str = "") -> Iterator[str]:
        """The fields without effect, by their whole names."""
        for name in self.model_extra or {}:
            yield f"{inside}{name[:64]}"
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, Lenient):
                yield from value.unknown(f"{inside}{name}.")


class _AutoOr:
    """A number, or what leaves the choice to us; told as one rule, not as a union's branches."""

    def __init__(self, least: float, most: float, *, whole: bool = False) -> None:
        words = "a whole number" if whole else "a number"
        self._least, self._most, self._whole = least, most, whole
        self._expected = f'it is "auto", or {words} from {least:g} to {most:g}'

    def check(self, value: object) -> object:
        """None for "auto". Raises ValueError."""
        if value is None or value == "auto":
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(self._expected)
        if not self._least <= value <= self._most or (self._whole and value != int(value)):
            raise ValueError(self._expected)
        return int(value) if self._whole else value

    @property
    def schema(self) -> dict[str, Any]:
        """As OpenAPI shows it."""
        kind = "integer" if self._whole else "number"
        number = {"type": kind, "minimum": self._least, "maximum": self._most}
        return {"anyOf": [{"const": "auto"}, number, {"type": "null"}]}


_EPOCHS = _AutoOr(0.01, 10_000)
_BATCH = _AutoOr(1, 4096, whole=True)
_RATE = _AutoOr(1e-6, 1e5)
_BETA = _AutoOr(0, 10)
Epochs = Annotated[float | None, BeforeValidator(_EPOCHS.check), WithJsonSchema(_EPOCHS.schema)]
Batch = Annotated[int | None, BeforeValidator(_BATCH.check), WithJsonSchema(_BATCH.schema)]
Rate = Annotated[float | None, BeforeValidator(_RATE.check), WithJsonSchema(_RATE.schema)]
Beta = Annotated[float | None, BeforeValidator(_BETA.check), WithJsonSchema(_BETA.schema)]


class SupervisedHyperparameters(Lenient):
    """How to train; "auto" leaves it to us."""

    n_epochs: Epochs = None
    batch_size: Batch = None
    learning_rate_multiplier: Rate = None


class DpoHyperparameters(SupervisedHyperparameters):
    """As above, and the beta of the preference loss."""

    beta: Beta = None


class Supervised(Lenient):
    """Learn from examples."""

    hyperparameters: SupervisedHyperparameters | None = None


class Dpo(Lenient):
    """Learn from preferences."""

    hyperparameters: DpoHyperparameters | None = None


class Method(Lenient):
    """What is learnt from: examples or preferences."""

    type: Literal["supervised", "dpo"]
    supervised: Supervised | None = None
    dpo: Dpo | None = None


class Wandb(Lenient):
    """Where at W&B the run goes."""

    project: Label
    name: Label | None = None
    entity: Label | None = None
    tags: list[Label] | None = Field(None, max_length=32)


class Integration(Lenient):
    """A tracker to tell; we know `wandb`."""

    type: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    wandb: Wandb | None = None


MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=64)]
MetadataValue = Annotated[str, StringConstraints(max_length=512)]
FileKey = Annotated[str, StringConstraints(min_length=1, max_length=160)]


def _none_if_empty(value: object) -> object:
    return None if value == "" else value


class CreateJob(Lenient):
    """A fine-tuning job as OpenAI's clients ask for it."""

    model: Annotated[str, StringConstraints(min_length=1, max_length=1024)] = Field(
        description="A hub id, a directory below a model root, or a model of ours (`ft:...`)."
    )
    training_file: FileKey = Field(description="The id of an uploaded file, or a dataset's name.")
    validation_file: FileKey | None = None
    suffix: Annotated[
        Annotated[str, StringConstraints(max_length=64, pattern=LABEL_PATTERN)] | None,
        BeforeValidator(_none_if_empty),
    ] = Field(None, description="Names the model.")
    seed: int | None = Field(None, ge=0, le=2**31 - 1)
    metadata: dict[MetadataKey, MetadataValue] | None = Field(None, max_length=_MOST_METADATA)
    integrations: list[Integration] | None = Field(None, max_length=8)
    method: Method | None = None
    hyperparameters: SupervisedHyperparameters | None = Field(
        None, description="The older form of `method.supervised`."
    )
    training_cluster: dict[str, Any] | None = Field(
        None,
        description="Of ours: native fields of POST /train (`template`, `gpus`, `recipe`, ...), "
        "by an SDK's `extra_body`.",
    )


class CreateUpload(Lenient):
    """A file that is going to come in parts."""

    bytes: int = Field(ge=0, le=2**53)
    filename: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    mime_type: Annotated[str, StringConstraints(max_length=255)]
    purpose: Annotated[str, StringConstraints(min_length=1, max_length=64)]


class CompleteUpload(Lenient):
    """The parts of a file, in order."""

    part_ids: list[Annotated[str, StringConstraints(max_length=64)]] = Field(max_length=10_000)
    md5: Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{32}$")] | None = None
