"""OpenAI's request for a fine-tuning job as a job of ours, and what of it has no effect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from training_cluster.api.dialects.openai import ineffective, names
from training_cluster.api.dialects.openai.hyperparameters import (
    DPO_RECIPE,
    Hyperparameters,
    Share,
    beta_of,
    native,
)
from training_cluster.api.dialects.openai.requests import (
    CreateJob,
    Integration,
    Lenient,
    Wandb,
)
from training_cluster.api.schemas import TrainRequest
from training_cluster.api.wording import field_error
from training_cluster.domain.dialect import DialectRequest
from training_cluster.domain.errors import FieldProblem, InvalidRequest
from training_cluster.domain.spec import JobSpec

SEED = 42  # the trainer's own; said, so that it is what is shown
_OURS = "training_cluster"
_PLACE = set(Wandb.model_fields)  # what else was said may be a secret, and is not kept
_FIELDS = {
    "model_name": "model",
    "dataset_version": "training_file",
    "validation_version": "validation_file",
    "save_name": "suffix",
    "overrides.seed": "seed",
    "overrides.pref_beta": "method.dpo.hyperparameters.beta",
    "tracking.project": "integrations.0.wandb.project",
    "tracking.entity": "integrations.0.wandb.entity",
    "tracking.run_name": "integrations.0.wandb.name",
    "tracking.tags": "integrations.0.wandb.tags",
    "num_epochs": "hyperparameters.n_epochs",
    "gradient_accumulation_steps": "hyperparameters.batch_size",
    "learning_rate": "hyperparameters.learning_rate_multiplier",
}

Settings = Callable[[JobSpec], Mapping[str, Any]]
"""What recipe and spec decide, by the trainer's names."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A job as it was asked for: in our words, what must be remembered to answer in OpenAI's, and
    what has no effect."""

    spec: JobSpec
    request: DialectRequest
    warnings: tuple[str, ...]


def to_spec(body: CreateJob, model: str, settings: Settings, trackers: frozenset[str]) -> Asked:
    """The job that was asked for; `model` is the native name of what it starts from, `trackers`
    are those that are served here.

    Raises InvalidRequest for native fields that cannot be and a batch that devices cannot share."""
    said, is_dpo = _said(body), body.method is not None and body.method.type == "dpo"
    decided = {"model_name": model, **_native(body, said, is_dpo=is_dpo)}
    spec = _spec({**(body.training_cluster or {}), **decided})
    if is_dpo and said.beta is None and (beta := beta_of(settings(spec))) is not None:
        spec = replace(spec, overrides={**spec.overrides, "pref_beta": beta})
    return Asked(spec, _remembered(body, said), tuple(ineffective.told(body, decided, trackers)))


def in_their_words(error: InvalidRequest) -> None:
    """Name the fields of a refusal as the request names them."""
    error.problems = tuple(
        replace(problem, field=_FIELDS.get(problem.field, problem.field))
        for problem in error.problems
    )


def _said(body: CreateJob) -> Hyperparameters:
    """The hyperparameters, wherever they stand: of the method first."""
    chosen: Lenient | None = body.hyperparameters
    if body.method is not None:
        part = body.method.dpo if body.method.type == "dpo" else body.method.supervised
        chosen = (part.hyperparameters if part is not None else None) or chosen
    known = Hyperparameters.__dataclass_fields__
    return Hyperparameters(**{name: getattr(chosen, name, None) for name in known})


def _native(body: CreateJob, said: Hyperparameters, *, is_dpo: bool) -> dict[str, Any]:
    given = body.training_cluster or {}
    overrides = given.get("overrides") if isinstance(given.get("overrides"), dict) else {}
    overrides = {"seed": SEED, **(overrides or {})}
    if body.seed is not None:
        overrides["seed"] = body.seed
    if is_dpo and said.beta is not None:
        overrides["pref_beta"] = said.beta
    fields = {
        "dataset_version": names.native_file(body.training_file),
        "overrides": overrides,
        **native(said, Share.of(given)),
        **_tracking(body.integrations or []),
    }
    if body.suffix is not None:
        fields["save_name"] = body.suffix
    if is_dpo:
        fields["recipe"] = given.get("recipe", DPO_RECIPE)
    return {name: value for name, value in fields.items() if name not in _yielding(given)}


def _yielding(given: Mapping[str, Any]) -> set[str]:
    """What OpenAI's words do not decide where ours are said."""
    return {"max_samples"} & given.keys()


def _tracking(integrations: list[Integration]) -> dict[str, Any]:
    """The first W&B integration."""
    place = next((each.wandb for each in integrations if each.wandb is not None), None)
    if place is None:
        return {}
    said = {
        "project": place.project,
        "entity": place.entity,
        "run_name": place.name,
        "tags": place.tags or [],
    }
    return {"tracking_backend": "wandb", "tracking": said}


def _spec(fields: Mapping[str, Any]) -> JobSpec:
    """Held against the same rules as a native request."""
    try:
        return TrainRequest.model_validate(fields).to_spec()
    except ValidationError as error:
        raise _refusal(error, fields) from None


def _refusal(error: ValidationError, fields: Mapping[str, Any]) -> InvalidRequest:
    problems = []
    for item in error.errors(include_url=False):
        found = field_error({**item, "loc": ("body", *item["loc"])})
        field = str(found["field"])
        named = _FIELDS.get(field, f"{_OURS}.{field}")
        problems.append(FieldProblem(named, str(found["message"]), found["expected"]))
    told = "; ".join(f"{problem.field}: {problem.message}" for problem in problems[:5])
    return InvalidRequest(told, problems=tuple(problems))


def _remembered(body: CreateJob, said: Hyperparameters) -> DialectRequest:
    data = {
        "model": body.model,
        "training_file": body.training_file,
        "validation_file": body.validation_file,
        "suffix": body.suffix,
        "metadata": body.metadata,
        "auto": said.automatic,
        "integrations": [
            each.model_dump(exclude_none=True, include={"type": True, "wandb": _PLACE})
            for each in body.integrations or []
        ],
    }
    return DialectRequest(names.DIALECT, data)
