"""Errors on the wire: one table from our errors to HTTP, bodies in RFC 9457 form."""

from __future__ import annotations

from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi_problem.error import Problem
from fastapi_problem.handler import ExceptionHandler, add_exception_handler
from pydantic import Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Match

from training_cluster.api.dialects.errors import forget_what_is_never_said, in_dialect
from training_cluster.api.shape import Shape
from training_cluster.api.wording import field_error
from training_cluster.domain.errors import (
    AccessDenied,
    Conflict,
    Forbidden,
    InvalidRequest,
    NotFound,
    Pruned,
    StorageFull,
    TooMany,
    TrainingClusterError,
    Unavailable,
)

log = structlog.get_logger(__name__)

# most specific first; the tree is in domain/errors.py
STATUS: tuple[tuple[type[TrainingClusterError], int], ...] = (
    (InvalidRequest, 422),
    (AccessDenied, 401),
    (Forbidden, 403),
    (NotFound, 404),
    (Conflict, 409),
    (TooMany, 429),
    (Unavailable, 503),
    (Pruned, 410),
    (StorageFull, 507),
    (TrainingClusterError, 500),
)


class FieldProblemView(Shape):
    """What is wrong with one field and what would be right."""

    field: str
    message: str
    expected: str | None = None


class ProblemView(Shape):
    """RFC 9457 problem details; `code` is the stable word for programs."""

    type: str
    title: str
    status: int
    detail: str | None = None
    code: str
    hint: str | None = None
    errors: list[FieldProblemView] = Field([])


def install(app: FastAPI) -> None:
    """Have every error of the app answered as a problem."""
    add_exception_handler(app, _handler, generic_swagger_defaults=False)
    for expected in (TrainingClusterError, ClientDisconnect):
        app.add_exception_handler(expected, _handler)
    _describe_problems(app)


def response(request: Request, error: TrainingClusterError) -> Response:
    """The answer to one of our errors, for what answers outside of the routes."""
    return _handler(request, error)


def _describe_problems(app: FastAPI) -> None:
    """Add the schema of problems to the OpenAPI document, to which `documented` refers."""
    make = app.openapi

    def openapi() -> dict[str, Any]:
        document = make()
        schema = ProblemView.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas.update(schema.pop("$defs", {}))
        schemas["ProblemView"] = schema
        for path, operations in document["paths"].items():
            forget_what_is_never_said(path, operations)
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
    if isinstance(error, TooMany):
        headers["Retry-After"] = str(error.retry_after_seconds)
    status = status_of(error)
    if status >= 500:
        log.error("request failed", action="api.error", path=request.url.path, why=error.message)
    title = type(error).__doc__ or error.message
    problem = Problem(
        title=title, type_=error.code, detail=error.message, status=status, headers=headers
    )
    problem.extras = extras
    return problem


def _invalid(_: ExceptionHandler, request: Request, error: RequestValidationError) -> Problem:
    of_job = request.url.path.endswith("/train")
    errors = [field_error(item, of_job=of_job) for item in error.errors()]
    problem = Problem(
        title="The request is not valid",
        type_="invalid_request",
        detail="; ".join(f"{e['field']}: {e['message']}" for e in errors[:5]),
        status=422,
    )
    problem.extras = {"code": "invalid_request", "errors": errors}
    return problem


_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_HTTP_CODES = {
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_body",
    416: "range_not_satisfiable",
}


def _http(_: ExceptionHandler, request: Request, error: Any) -> Problem:
    code = _HTTP_CODES.get(error.status_code, "http_error")
    detail, headers = str(error.detail), dict(error.headers or {})
    if error.status_code == 404:
        detail = f"there is nothing at {request.url.path}; GET / lists what there is"
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_methods_at(request))
        detail = f"{request.method} is not taken at {request.url.path}, only {headers['Allow']}"
    problem = Problem(
        title=str(error.detail),
        type_=code,
        detail=detail,
        status=error.status_code,
        headers=headers,
    )
    problem.extras = {"code": code}
    return problem


def _methods_at(request: Request) -> list[str]:
    """What a path takes; the exception knows the methods of one route of it."""
    asked = ({**request.scope, "method": method} for method in _METHODS)
    routes = request.app.routes
    return [
        scope["method"]
        for scope in asked
        if any(route.matches(scope)[0] is Match.FULL for route in routes)
    ]


def _gone(_: ExceptionHandler, __: Request, ___: Exception) -> Problem:
    """Who has hung up in the middle of a request hears nothing, and nothing is wrong here."""
    problem = Problem(title="The request is not complete", type_="incomplete_request", status=400)
    problem.extras = {"code": "incomplete_request"}
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


_handler = ExceptionHandler(
    handlers={
        TrainingClusterError: _ours,
        RequestValidationError: _invalid,
        HTTPException: _http,
        ClientDisconnect: _gone,
        Exception: _bug,
    },
    post_hooks=[in_dialect],
)


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


__all__ = ["STATUS", "ProblemView", "documented", "install", "response", "status_of"]
