"""Request bodies parsed by a strict JSON parser.

The standard library's lets NaN and lone surrogates through and fails by recursion on deep
nesting; each would end as a 500 further in.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

import pydantic_core
from fastapi import Request, Response
from fastapi.routing import APIRoute


class StrictJsonRequest(Request):
    """A request whose `json()` refuses what is not valid JSON text."""

    async def json(self) -> Any:
        """The parsed body. Raises json.JSONDecodeError, which FastAPI answers with 422."""
        body = await self.body()
        try:
            value = pydantic_core.from_json(body, allow_inf_nan=False)
        except ValueError as error:
            raise json.JSONDecodeError(str(error), "", 0) from error
        _refuse_nul(value)
        return value


def _refuse_nul(value: object) -> None:
    if isinstance(value, str) and "\0" in value:
        raise json.JSONDecodeError("a string contains the character NUL", "", 0)
    if isinstance(value, list):
        for item in value:
            _refuse_nul(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            _refuse_nul(key)
            _refuse_nul(item)


class StrictJsonRoute(APIRoute):
    """A route that reads its body as StrictJsonRequest does."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the request before FastAPI reads its body."""
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handle(StrictJsonRequest(request.scope, request.receive))

        return strict
