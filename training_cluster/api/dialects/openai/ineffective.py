"""What of OpenAI's request for a job has no effect here, in a sentence each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from training_cluster.api.dialects.openai.requests import CreateJob

_MOST = 16


def told(body: CreateJob, decided: Mapping[str, Any], trackers: frozenset[str]) -> Iterator[str]:
    """`decided` are the native fields that OpenAI's words have decided, `trackers` those that are
    served here."""
    yield from _integrations(body, trackers)
    if unknown := list(_unknown(body)):
        named = ", ".join(unknown[:_MOST])
        yield f"{named}: had no effect, because nothing here goes by that name"
    yield from _methods(body)
    if outdone := list(_outdone(body.training_cluster or {}, decided)):
        yield f"{', '.join(outdone[:_MOST])}: had no effect, because OpenAI's own words decide that"


def _integrations(body: CreateJob, trackers: frozenset[str]) -> Iterator[str]:
    has_place = False
    for number, each in enumerate(body.integrations or []):
        named = f"integrations.{number} ({each.type}) has no effect"
        if each.wandb is None and each.type == "wandb":
            yield f"{named}: it says nothing of the project"
        elif each.wandb is None:
            yield f"{named}: only wandb is known here"
        elif "wandb" not in trackers:
            yield "wandb is not served here; the daemon keeps the metrics all the same"
        elif has_place:
            yield f"{named}: a job is told of at one place of W&B, the first"
        has_place = has_place or each.wandb is not None


def _unknown(body: CreateJob) -> Iterator[str]:
    yield from body.unknown()
    for number, each in enumerate(body.integrations or []):
        yield from each.unknown(f"integrations.{number}.")


def _methods(body: CreateJob) -> Iterator[str]:
    if body.method is None:
        return
    parts = {"supervised": body.method.supervised, "dpo": body.method.dpo}
    for name, part in parts.items():
        if part is not None and name != body.method.type:
            yield f"method.{name} had no effect: the type is {body.method.type}"
    chosen, older = parts[body.method.type], body.hyperparameters
    has_own = chosen is not None and chosen.hyperparameters is not None
    if has_own and older is not None and older.model_fields_set:
        yield "hyperparameters had no effect: those of method count"


def _outdone(given: Mapping[str, Any], decided: Mapping[str, Any]) -> Iterator[str]:
    """Native fields for which OpenAI has words that were said, too."""
    for name, value in given.items():
        if name == "overrides" and isinstance(value, dict):
            yield from _outdone_overrides(value, decided.get(name) or {})
        elif name in decided and decided[name] != value:
            yield f"training_cluster.{name}"


def _outdone_overrides(given: Mapping[str, Any], decided: Mapping[str, Any]) -> Iterator[str]:
    for name, value in given.items():
        if name in decided and decided[name] != value:
            yield f"training_cluster.overrides.{name}"
