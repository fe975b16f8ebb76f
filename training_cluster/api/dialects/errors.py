"""Errors as each dialect's clients read them: the body is decided by the path.

By the path and not by the route, because wrong paths, refusals of the gate and bodies that are too
large have no route. What comes in is always the native problem (RFC 9457) with its stable `code`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

Problem = Mapping[str, Any]
"""The native answer: status, title, code, and perhaps detail, hint and errors by field."""


@dataclass(frozen=True, slots=True)
class Told:
    """An error in a dialect's words."""

    status: int
    content: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


Shape = Callable[[Problem, str], Told]
"""Puts a problem, met by a request of this method, into a dialect's words."""

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_OPENAI_TYPES = {
    401: "invalid_request_error",
    403: "permission_error",
    429: "rate_limit_error",
}
_OPENAI_CODES = {
    "access_denied": "invalid_api_key",
    "invalid_token": "invalid_api_key",
    "job_not_found": "fine_tune_not_found",
}
_OPENAI_PATHS = {
    "GET /train": "GET /v1/fine_tuning/jobs",
    "GET /datasets": "GET /v1/files",
    "GET /models": "GET /v1/models",
}
_OPENAI_PARAMS = {
    "job_not_found": "fine_tuning_job_id",
    "dataset_not_found": "file_id",
    "upload_not_found": "upload_id",
    "model_not_found": "model",
}


def sentence(problem: Problem) -> str:
    """What happened and what to do about it, in one text."""
    said = str(problem.get("detail") or problem["title"]).strip()
    hint = problem.get("hint")
    return f"{said.rstrip('.')}. {hint[:1].upper()}{hint[1:]}" if hint else said


def with_openai_paths(text: str) -> str:
    """What is said about our paths, said about OpenAI's."""
    for ours, theirs in _OPENAI_PATHS.items():
        text = text.replace(ours, theirs)
    return text


def _openai(problem: Problem, method: str) -> Told:
    """`{"error": {message, type, param, code}}`. What is wrong with a request is 400 there, and
    so is what does not fit the state: 409 would have the SDKs send it again."""
    status = 400 if problem["status"] in (409, 422) else problem["status"]
    code = str(problem["code"])
    kind = _OPENAI_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    fields = problem.get("errors") or ()
    error = {
        "message": with_openai_paths(sentence(problem)),
        "type": kind,
        "param": fields[0]["field"] if fields else _OPENAI_PARAMS.get(code),
        "code": _OPENAI_CODES.get(code, code),
    }
    again = method in _SAFE_METHODS and status != 429
    headers = {} if again or status < 408 else {"x-should-retry": "false"}
    return Told(status, {"error": error}, headers)


# 400 is what its SDKs raise as an error of the user, with our words; 409 they do not know
_LAMINI_STATUSES = {409: 400, 422: 400}
_LAMINI_CODES = {"name_taken": 497, "model_not_allowed": 594, "model_not_found": 594}
_LAMINI_HEADER = "lamini-version"
_LAMINI_HAS = (
    "of Lamini's API this daemon has /v1/train, /v1/local-data, /v1/data, /v1/existing-data, "
    "/v1/get-upload-base-path, /v1/version and /v1alpha/downloaded_models"
)


def _lamini(problem: Problem, _: str) -> Told:
    """`{"detail": ...}`: a text, or with 422 a list of what is wrong with which field."""
    fields = problem.get("errors") or ()
    if problem["status"] == 422 and problem["code"] == "invalid_request" and fields:
        return Told(422, {"detail": [_lamini_field(each) for each in fields]})
    usual: int = problem["status"]
    status = _LAMINI_CODES.get(str(problem["code"]), _LAMINI_STATUSES.get(usual, usual))
    return Told(status, {"detail": sentence(problem)})


def _lamini_field(problem: Mapping[str, Any]) -> dict[str, Any]:
    expected = problem.get("expected")
    said = str(problem["message"])
    return {
        "loc": ["body", *_lamini_place(str(problem["field"]))],
        "msg": f"{said}; expected: {expected}" if expected and expected != said else said,
        "type": "invalid_request",
    }


def _lamini_place(field: str) -> list[str | int]:
    """`data[0].input` as its document writes it: names, and numbers of rows."""
    found = re.findall(r"([^.\[\]]+)|\[(\d+)\]", "" if field == "body" else field)
    return [name or int(number) for name, number in found]


def _lamini_elsewhere(problem: Problem, method: str) -> Told:
    """Of a part of Lamini's API that is not here."""
    told = _lamini(problem, method)
    if problem["code"] != "not_found":
        return told
    return Told(told.status, {"detail": f"{told.content['detail']}; {_LAMINI_HAS}"})


def _vertesia(problem: Problem, _: str) -> Told:
    """`{error, status, message}`."""
    content = {
        "error": problem["title"].strip().splitlines()[0],
        "status": problem["status"],
        "message": sentence(problem),
    }
    return Told(problem["status"], content)


_LAMINI_PATHS = (
    *("/v1/train", "/v1/local-data", "/v1/existing-data", "/v1/data", "/v1/get-upload-base-path"),
    *("/v1/version", "/v1/downloaded_models", "/v1alpha/downloaded_models"),
)
_LAMINI_ELSEWHERE = (
    *("/v1/batch_completions", "/v1/batch_embeddings", "/v1/embedding", "/v1/classifier"),
    *("/v1/reservation", "/v1/eval", "/v1/inference", "/v1alpha", "/alpha", "/v2", "/v3"),
)
SHAPES: dict[str, Shape] = {
    "/v1": _openai,
    **dict.fromkeys(_LAMINI_PATHS, _lamini),
    **dict.fromkeys(_LAMINI_ELSEWHERE, _lamini_elsewhere),
    "/api/v1": _vertesia,
}


def shape_of(path: str) -> Shape | None:
    """The words of whoever asks at this path, by the longest beginning; None for the native
    API."""
    parts = path.rstrip("/").split("/")
    for count in range(len(parts), 1, -1):
        shape = SHAPES.get("/".join(parts[:count]))
        if shape is not None:
            return shape
    return None


def told_at(path: str, method: str, problem: Problem) -> Told | None:
    """A problem as it is said to who asks there; None where the native answer is right."""
    shape = shape_of(path)
    return None if shape is None else shape(problem, method)


def forget_what_is_never_said(path: str, operations: Mapping[str, Any]) -> None:
    """Take FastAPI's own answer to an invalid request out of the document of a path that says it
    with another status."""
    wrong = ({"field": "-", "message": "-"},)
    invalid = {"status": 422, "title": "-", "code": "invalid_request", "errors": wrong}
    told = told_at(path, "GET", invalid)
    if told is not None and told.status != 422:
        for operation in operations.values():
            operation["responses"].pop("422", None)


def in_dialect(
    content: dict[str, Any], request: Request, response: Response
) -> tuple[dict[str, Any], Response]:
    """The answer that says a problem in the words of the path's dialect."""
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    shape = shape_of(path)
    if shape is _openai and _LAMINI_HEADER in request.headers:  # a path that both of them have
        shape = _lamini_elsewhere
    if shape is None:
        return content, response
    told = shape(content, request.method)
    body = json.dumps(told.content).encode()
    spoken = Response(body, told.status, media_type="application/json")
    kept = {
        name: value
        for name, value in response.headers.items()
        if name not in ("content-type", "content-length")
    }
    spoken.headers.update({**kept, **told.headers})
    return dict(told.content), spoken
