"""The gate before every route: nothing is answered but /healthz until it is known who asks.

An ASGI layer, so that also what is no route of ours (documentation, wrong paths, bodies too large)
is behind it. A token that ends takes the streams with it that it has opened.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from training_cluster.api import asking, links, problems, upload_key
from training_cluster.api.asking import Asking
from training_cluster.api.auth import Access, BadCredential
from training_cluster.api.pages import PAGE_HEADERS, is_browser
from training_cluster.api.services import Services
from training_cluster.domain.errors import AccessDenied, TooManyFailures, TrainingClusterError
from training_cluster.domain.principal import Principal
from training_cluster.services.failures import FailureLimit
from training_cluster.ui.login import login_page

_OPEN = frozenset({("GET", "/healthz"), ("HEAD", "/healthz")})
_LOGIN = ("POST", "/login")
_EVENT_STREAM = b"text/event-stream"


@dataclass(slots=True)
class Door:
    """What the gate and the login page share: the operator's rules, and who failed how often."""

    access: Access
    failures: FailureLimit

    def failed(
        self, asked: Asking, error: AccessDenied, services: Services
    ) -> AccessDenied | TooManyFailures:
        """Note that somebody was not let in; returns the error to answer with. Who shows
        nothing has not failed; who shows what is not valid can do so only so often."""
        services.records.denied(asked.address, error.message)
        if isinstance(error, BadCredential):
            wait = self.failures.fail(asked.address, time.monotonic())
            if wait is not None:
                return TooManyFailures(
                    "too many attempts to get in have failed from there",
                    retry_after_seconds=math.ceil(wait),
                    hint="a valid token is let in at any time",
                )
        return error


class Gate:
    """The ASGI layer that finds out who asks and lets in who may."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app = app
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with `request.state.principal`, or answer it with 401, 403 or 429."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http" or _place(scope) in _OPEN:
            await self._app(scope, receive, send)
            return
        asked = scope.setdefault("state", {})["asking"] = asking.read(scope)
        links.begin_at(asked.prefix)
        if _place(scope) == _LOGIN:
            await self._app(scope, receive, send)
            return
        services: Services = scope["app"].state.services
        try:
            caller = await self._addressed(scope, services)
            if caller is None:
                caller = self._door.access.identify(asked, services.tokens, services.sessions)
        except AccessDenied as error:
            await _refuse(self._door.failed(asked, error, services), scope, receive, send)
        except TrainingClusterError as error:
            await _refuse(error, scope, receive, send)
        else:
            scope["state"]["principal"] = caller
            await self._let_in(caller, services, scope, receive, send)

    async def _addressed(self, scope: Scope, services: Services) -> Principal | None:
        """Whose an address is that opens one thing to whoever has it; None for any other. It is
        looked at before who else asks. Raises BadSignature."""
        signed = services.signed_urls.caller(*_place(scope), scope["query_string"])
        return signed or await upload_key.sender(scope, services.uploads)

    async def _let_in(
        self, caller: Principal, services: Services, scope: Scope, receive: Receive, send: Send
    ) -> None:
        token = services.tokens.valid(caller.token_id) if caller.token_id else None
        if token is None:
            await self._app(scope, receive, send)
            return
        seconds = None if token.expires_at is None else token.expires_at - time.time()
        lease = _Lease(send, seconds)
        services.tokens.watch(token.id, lease.end)
        try:
            await self._app(scope, receive, lease.send)
        except asyncio.CancelledError:
            if not await lease.was_ended():
                raise
        finally:
            services.tokens.unwatch(token.id, lease.end)
            lease.close()


class _Lease:
    """One answer to who came with a token: a stream ends when the token does."""

    def __init__(self, send: Send, seconds: float | None) -> None:
        self._send = send
        self._seconds = seconds
        self._task = asyncio.current_task()
        self._timer: asyncio.TimerHandle | None = None
        self._streams = self._ended = False

    async def send(self, message: Message) -> None:
        """Pass on; from the beginning of a stream on it can be ended."""
        if message["type"] == "http.response.start" and _is_stream(message):
            self._streams = True
            if self._seconds is not None:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(max(0.0, self._seconds), self.end)
        await self._send(message)

    def end(self) -> None:
        """The token has ended: cut a stream off, and let any other answer come to its end."""
        if self._streams and not self._ended and self._task is not None:
            self._ended = True
            self._task.cancel()

    async def was_ended(self) -> bool:
        """Whether it was us who cancelled; then the stream is closed in good order."""
        if not self._ended or self._task is None:
            return False
        self._task.uncancel()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        return True

    def close(self) -> None:
        """Forget the timer."""
        if self._timer is not None:
            self._timer.cancel()


def _place(scope: Scope) -> tuple[str, str]:
    return scope["method"], scope["path"].removeprefix(scope.get("root_path", ""))


def _is_stream(message: Message) -> bool:
    return any(
        name == b"content-type" and value.startswith(_EVENT_STREAM)
        for name, value in message.get("headers", ())
    )


async def _refuse(error: TrainingClusterError, scope: Scope, receive: Receive, send: Send) -> None:
    """A problem for programs; for browsers that may come in with a token, the login page."""
    response: Any = problems.response(Request(scope), error)
    wants_page = scope["method"] == "GET" and is_browser(Headers(scope=scope))
    if wants_page and isinstance(error, AccessDenied | TooManyFailures):
        headers = {**PAGE_HEADERS, "WWW-Authenticate": "Bearer"}
        page = login_page(scope["path"], said=error.message)
        response = HTMLResponse(page, response.status_code, headers)
    await response(scope, receive, send)
