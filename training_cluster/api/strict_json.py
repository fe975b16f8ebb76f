"""Request bodies parsed by a strict JSON parser.

The standard library's lets NaN and lone surrogates through and fails by recursion on deep
nesting; each would end as a 500 further in. What is refused is said in words that help.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

import pydantic_core
from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute

_JSON = "application/json"
_BOM = b"\xef\xbb\xbf"


class StrictJsonRequest(Request):
    """A request whose body is JSON text or refused."""

    async def body(self) -> bytes:
        """The body. Raises HTTPException for one that does not say it is plain JSON."""
        body = await super().body()
        if body:
            require_json(self)
        return body

    async def json(self) -> Any:
        """The parsed body. Raises json.JSONDecodeError, which FastAPI answers with 422."""
        body = await self.body()
        if body.startswith(_BOM):
            raise json.JSONDecodeError("the text begins with a byte order mark", "", 0)
        try:
            pydantic_core.from_json(body, allow_inf_nan=False)  # which also knows where to stop
            return json.loads(body, object_pairs_hook=_pairs)
        except json.JSONDecodeError:
            raise
        except ValueError as error:
            raise json.JSONDecodeError(str(error), "", 0) from error


def require_json(request: Request) -> None:
    """Raise HTTPException unless a request says that its body is plain JSON."""
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != _JSON:
        said = f"Content-Type {kind[:64]!r}" if kind else "a body without Content-Type"
        right = "send JSON and say so: curl -H 'Content-Type: application/json'"
        raise HTTPException(415, f"{said} is not taken here; {right}")
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.strip().lower() != "identity":
        said = f"Content-Encoding {encoding[:64]!r}"
        raise HTTPException(415, f"{said} is not taken here; send the text as it is")


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object. Raises json.JSONDecodeError for a key said twice and for NUL in a text."""
    content = dict(pairs)
    if len(content) < len(pairs):
        said = [key for key, _ in pairs]
        twice = next(key for key in said if said.count(key) > 1)
        raise json.JSONDecodeError(f"{twice[:64]!r} is said twice", "", 0)
    for key, value in pairs:
        if _has_nul(key) or _has_nul(value):
            raise json.JSONDecodeError(f"{key[:64]!r} contains the character NUL", "", 0)
    return content


def _has_nul(value: object) -> bool:
    if isinstance(value, str):
        return "\0" in value
    return isinstance(value, list) and any(_has_nul(item) for item in value)


class StrictJsonRoute(APIRoute):
    """A route that reads its body as StrictJsonRequest does."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the request before FastAPI reads its body."""
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handle(StrictJsonRequest(request.scope, request.receive))

        return strict
