"""Refuses bodies that are too large, before anything reads them.

Starlette's own layer raises inside answers that have begun, which ends as an error of ours in the
log. Here the layer answers itself, and to the app the client has gone.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from training_cluster.api.dialects.errors import Told, told_at

UPLOADS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("POST", re.compile(r"/datasets")),
    ("PUT", re.compile(r"/uploads/[^/]+")),
    ("POST", re.compile(r"/v1/(train|local-data)")),
    ("PUT", re.compile(r"/v1/data/[^/]+")),
    ("POST", re.compile(r"/v1/files")),
    ("POST", re.compile(r"/v1/uploads/[^/]+/parts")),
)
"""The routes that take whole files."""

_HINTS = {"/datasets/import": "more rows come as a file: POST /datasets with a form, or /uploads"}


@dataclass(frozen=True, slots=True)
class BodySizes:
    """How many bytes of a body are taken: `usual`, and `upload` where files come."""

    usual: int
    upload: int

    def most(self, method: str, path: str) -> int:
        """Of a request to this route."""
        is_upload = any(method == m and place.fullmatch(path) for m, place in UPLOADS)
        return self.upload if is_upload else self.usual


class LimitBody:
    """The ASGI layer; as many bytes of a body are taken as `sizes` says."""

    def __init__(self, app: ASGIApp, sizes: BodySizes) -> None:
        self._app = app
        self._sizes = sizes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and count its body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        most = self._sizes.most(scope["method"], path)
        exchange = _Exchange(most, scope, receive, send)
        if _announced(scope) > most:
            await exchange.refuse()
        else:
            await self._app(scope, exchange.receive, exchange.send)


class _Exchange:
    """One request and its answer."""

    def __init__(self, most_bytes: int, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._most_bytes = most_bytes
        self._receive = receive
        self._send = send
        self._received = 0
        self._begun = False
        self._refused = False

    async def receive(self) -> Message:
        """A part of the body, until there is too much of it: then only the client's end. Where the
        answer has begun, what comes is thrown away."""
        while True:
            message = await self._receive()
            self._received += len(message.get("body", b""))
            if self._received <= self._most_bytes or message["type"] == "http.disconnect":
                return message
            if not self._begun:
                await self.refuse()
                return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """A part of the app's answer, unless the request was refused."""
        self._begun = True
        if not self._refused:
            await self._send(message)

    async def refuse(self) -> None:
        """Answer 413 in place of the app."""
        self._begun = self._refused = True
        content: dict[str, object] = {
            "type": "body_too_large",
            "title": "The body is too large",
            "status": 413,
            "detail": f"a body may have at most {self._most_bytes} bytes",
            "code": "body_too_large",
        }
        if hint := _HINTS.get(self._scope["path"].removeprefix(self._scope.get("root_path", ""))):
            content["hint"] = hint
        told = told_at(self._scope["path"], self._scope["method"], content)
        kind = "application/problem+json" if told is None else "application/json"
        told = told or Told(413, content)
        body = json.dumps(told.content).encode()
        said = {
            "content-type": kind,
            "content-length": str(len(body)),
            "connection": "close",
            **told.headers,
        }
        headers = [(name.encode(), value.encode()) for name, value in said.items()]
        await self._send({"type": "http.response.start", "status": told.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})


def _announced(scope: Scope) -> int:
    said = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    return int(said) if said.isdigit() else 0
