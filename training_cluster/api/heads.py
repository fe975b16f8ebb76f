"""Answers HEAD by what GET would answer, without its body (RFC 9110, 9.3.2).

The route is run until its headers are sent and ended then: a zip is not made, a stream not opened.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.types import Message, Receive, Scope, Send

Handle = Callable[[Scope, Receive, Send], Awaitable[None]]


class _HeadersSent(BaseException):
    """All that was asked for is sent. Nothing that handles errors may take it for one."""


async def send_head(get: Handle, scope: Scope, receive: Receive, send: Send) -> None:
    """Let `get` answer a scope whose method is GET, up to its headers."""

    async def until_headers(message: Message) -> None:
        await send(message)
        if message["type"] == "http.response.start":
            raise _HeadersSent

    try:
        await get(scope, receive, until_headers)
    except* _HeadersSent:
        await send({"type": "http.response.body", "body": b""})
