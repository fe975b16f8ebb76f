"""How Lamini's routes describe themselves to OpenAPI: answers, errors, bodies read by hand."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from training_cluster.api.dialects.errors import told_at
from training_cluster.api.dialects.lamini import examples
from training_cluster.api.dialects.lamini.schemas import TrainPayload
from training_cluster.api.dialects.lamini.views import ErrorView
from training_cluster.api.problems import STATUS
from training_cluster.domain.errors import (
    AccessDenied,
    Forbidden,
    InvalidRequest,
    TooManyFailures,
    TrainingClusterError,
)

FILE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_INVALID = {
    "detail": [{"loc": ["body", "model_name"], "msg": "it is missing", "type": "invalid_request"}]
}


def answers(
    view: Any, example: Any, *errors: type[TrainingClusterError]
) -> dict[int | str, dict[str, Any]]:
    """A route's `responses`: its answer with an example, and the errors as Lamini's clients read
    them."""
    found: dict[int | str, dict[str, Any]] = {
        200: {"model": view, "content": {"application/json": {"example": example}}},
        422: {"model": ErrorView, "content": {"application/json": {"example": _INVALID}}},
    }
    kinds: tuple[type[TrainingClusterError], ...]
    kinds = (AccessDenied, Forbidden, InvalidRequest, TooManyFailures, *errors)
    for kind in kinds:
        status = next(status for base, status in STATUS if issubclass(kind, base))
        said = {"status": status, "title": _title(kind), "code": kind.code}
        told = told_at("/v1/train", "POST", said)
        assert told is not None
        content = {"application/json": {"example": told.content}}
        shown = {"model": ErrorView, "description": _title(kind), "content": content}
        found.setdefault(told.status, shown)
    return found


def _title(kind: type[TrainingClusterError]) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]


def body_with_rows(model: type[BaseModel], given: dict[str, Any] | None = None) -> dict[str, Any]:
    """OpenAPI's words for a body that is `model` and may hold rows."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})
    schema["properties"]["data"] = _DATA
    told = given or {"rows": {"upload_base_path": examples.BASE, "data": examples.ROWS}}
    shown = {name: {"value": value} for name, value in told.items()}
    content = {"schema": _inlined(schema, definitions), "examples": shown}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


_DATA: dict[str, Any] = {
    "anyOf": [
        {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"input": {"type": "string"}, "output": {"type": "string"}},
                "required": ["input"],
            },
        },
        {"type": "null"},
    ],
    "description": "The rows themselves. What is no text is written as JSON.",
}


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """A schema without references: those of a body written by hand lead nowhere."""
    if isinstance(schema, list):
        return [_inlined(each, definitions) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {name: _inlined(value, definitions) for name, value in schema.items()}


TRAIN_BODY = body_with_rows(TrainPayload, examples.TRAIN)
