"""Takes a path that begins with several slashes for the one with one.

Clients that join `LAMINI_API_URL=http://box:23478/` and `/v1/train` as they are ask for
`//v1/train`.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send


class OneSlash:
    """An ASGI layer for in front of all others: what they look at is the path that is meant."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] == "http" and scope["path"].startswith("//"):
            scope = {**scope, "path": "/" + scope["path"].lstrip("/")}
            if raw := scope.get("raw_path"):
                scope["raw_path"] = b"/" + raw.lstrip(b"/")
        await self._app(scope, receive, send)
