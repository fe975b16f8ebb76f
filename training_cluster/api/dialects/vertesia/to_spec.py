"""A training session as a job of ours: base model, dataset, and what native fields it was given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from training_cluster.api.schemas import TrainRequest
from training_cluster.api.wording import field_error
from training_cluster.domain.errors import FieldProblem, InvalidRequest
from training_cluster.domain.spec import JobSpec
from training_cluster.domain.training_session import TrainingSession

_OURS = "training_cluster"
_LABEL_CHARACTERS = 128
# said by the session itself, or a secret that is kept elsewhere
_NOT_HERE = ("model_name", "dataset_version", "webhook_url")


def to_spec(session: TrainingSession, dataset: str) -> JobSpec:
    """The job that trains a session's model on `dataset`. The model that comes of it is called
    after the session unless the native fields say otherwise."""
    spec = TrainRequest.model_validate(session.options).to_spec()
    name = spec.save_name or session.name.strip()[:_LABEL_CHARACTERS] or None
    return replace(spec, model_name=session.model, dataset_version=dataset, save_name=name)


def checked(options: Mapping[str, Any]) -> dict[str, Any]:
    """Native fields for a session's jobs. Raises InvalidRequest for those that cannot be."""
    for field in _NOT_HERE:
        if field in options:
            problem = FieldProblem(f"{_OURS}.{field}", "it cannot be said here", None)
            raise InvalidRequest(f"{problem.field}: {problem.message}", problems=(problem,))
    try:
        TrainRequest.model_validate(options)
    except ValidationError as error:
        found = [field_error({**e, "loc": ("body", *e["loc"])}) for e in error.errors()]
        problems = tuple(
            FieldProblem(f"{_OURS}.{e['field']}", str(e["message"]), e["expected"]) for e in found
        )
        told = "; ".join(f"{problem.field}: {problem.message}" for problem in problems[:5])
        raise InvalidRequest(told, problems=problems) from None
    return dict(options)
