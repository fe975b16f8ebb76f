"""Errors on the wire: one table from our errors to HTTP, bodies in RFC 9457 form."""

from __future__ import annotations

from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi_problem.error import Problem
from fastapi_problem.handler import ExceptionHandler, add_exception_handler
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from training_cluster.domain.errors import (
    AccessDenied,
    Conflict,
    InvalidRequest,
    NotFound,
    StorageFull,
    TrainingClusterError,
    Unavailable,
)

log = structlog.get_logger(__name__)

# most specific first; the tree is in domain/errors.py
STATUS: tuple[tuple[type[TrainingClusterError], int], ...] = (
    (InvalidRequest, 422),
    (AccessDenied, 401),
    (NotFound, 404),
    (Conflict, 409),
    (Unavailable, 503),
    (StorageFull, 507),
    (TrainingClusterError, 500),
)


class FieldProblemView(BaseModel):
    """What is wrong with one field and what would be right."""

    field: str
    message: str
    expected: str | None = None


class ProblemView(BaseModel):
    """RFC 9457 problem details; `code` is the stable word for programs."""

    type: str
    title: str
    status: int
    detail: str | None = None
    code: str
    hint: str | None = None
    errors: list[FieldProblemView] = []


def install(app: FastAPI) -> None:
    """Have every error of the app answered as a problem."""
    handler = ExceptionHandler(
        handlers={
            TrainingClusterError: _ours,
            RequestValidationError: _invalid,
            HTTPException: _http,
            Exception: _bug,
        }
    )
    add_exception_handler(app, handler, generic_swagger_defaults=False)
    app.add_exception_handler(TrainingClusterError, handler)
    _describe_problems(app)


def _describe_problems(app: FastAPI) -> None:
    """Add the schema of problems to the OpenAPI document, to which `documented` refers."""
    make = app.openapi

    def openapi() -> dict[str, Any]:
        document = make()
        schema = ProblemView.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas.update(schema.pop("$defs", {}))
        schemas["ProblemView"] = schema
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def status_of(error: TrainingClusterError) -> int:
    """The HTTP status of one of our errors."""
    return next(status for kind, status in STATUS if isinstance(error, kind))


def _ours(_: ExceptionHandler, request: Request, error: TrainingClusterError) -> Problem:
    extras: dict[str, Any] = {"code": error.code}
    if error.hint:
        extras["hint"] = error.hint
    if isinstance(error, InvalidRequest) and error.problems:
        extras["errors"] = [
            {"field": p.field, "message": p.message, "expected": p.expected} for p in error.problems
        ]
    headers = {}
    if isinstance(error, AccessDenied):
        headers["WWW-Authenticate"] = "Bearer"
    status = status_of(error)
    if status >= 500:
        log.error("request failed", action="api.error", path=request.url.path, why=error.message)
    title = type(error).__doc__ or error.message
    problem = Problem(
        title=title, type_=error.code, detail=error.message, status=status, headers=headers
    )
    problem.extras = extras
    return problem


def _invalid(_: ExceptionHandler, __: Request, error: RequestValidationError) -> Problem:
    errors = [_field_error(item) for item in error.errors()]
    problem = Problem(
        title="The request is not valid",
        type_="invalid_request",
        detail="; ".join(f"{e['field']}: {e['message']}" for e in errors[:5]),
        status=422,
    )
    problem.extras = {"code": "invalid_request", "errors": errors}
    return problem


def _field_error(item: Any) -> dict[str, str | None]:
    where = [str(part) for part in item["loc"]]
    field = ".".join(where[1:]) or (where[0] if where else "body")
    return {"field": field, "message": item["msg"], "expected": _expected(item)}


_BOUNDS = {
    "ge": "at least {}",
    "gt": "more than {}",
    "le": "at most {}",
    "lt": "less than {}",
    "min_length": "at least {} long",
    "max_length": "at most {} long",
    "pattern": "text matching {}",
    "expected": "{}",
}


def _expected(item: Any) -> str | None:
    """What would be right, from what pydantic knows of the rule that was broken."""
    if item["type"] == "extra_forbidden":
        return "only documented fields; further trainer keys go into `overrides`"
    context = item.get("ctx") or {}
    words = [text.format(context[key]) for key, text in _BOUNDS.items() if key in context]
    return ", ".join(words) or None


_HTTP_CODES = {
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    416: "range_not_satisfiable",
}


def _http(_: ExceptionHandler, request: Request, error: Any) -> Problem:
    code = _HTTP_CODES.get(error.status_code, "http_error")
    detail = str(error.detail)
    if error.status_code == 404:
        detail = f"there is nothing at {request.url.path}; GET / lists what there is"
    problem = Problem(
        title=str(error.detail),
        type_=code,
        detail=detail,
        status=error.status_code,
        headers=dict(error.headers or {}),
    )
    problem.extras = {"code": code}
    return problem


def _bug(_: ExceptionHandler, request: Request, error: Exception) -> Problem:
    """What went wrong inside stays inside: the log has it, the answer does not."""
    log.error("unexpected", action="api.bug", path=request.url.path, exc_info=error)
    problem = Problem(
        title="Something went wrong here",
        type_="internal_error",
        detail="the daemon's log says more",
        status=500,
    )
    problem.extras = {"code": "internal_error"}
    return problem


def documented(*errors: type[TrainingClusterError]) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's `responses` for the errors a route can answer."""
    found: dict[int | str, dict[str, Any]] = {}
    for kind in errors:
        status = next(status for base, status in STATUS if issubclass(kind, base))
        title = (kind.__doc__ or "").strip()
        problem = {"type": kind.code, "title": title, "status": status, "code": kind.code}
        found[status] = {
            "description": title,
            "content": {
                "application/problem+json": {
                    "schema": {"$ref": "#/components/schemas/ProblemView"},
                    "example": problem,
                }
            },
        }
    return found


__all__ = ["STATUS", "ProblemView", "documented", "install", "status_of"]
