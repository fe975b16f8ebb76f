"""Counts requests and times answers by method, route and status class.

A bare ASGI layer of some microseconds. Routes are told by their templates, so that no path a
client makes up becomes a label; a stream of events counts as answered when it begins.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from training_cluster.services.histogram import Distribution, Histogram

_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_OTHER = "other"
_EVENT_STREAM = b"text/event-stream"


class Kind(NamedTuple):
    """Requests that are counted together. `status` is 2xx, 4xx, ..."""

    method: str
    route: str
    status: str


class RequestMetrics:
    """What has been asked since the start, and how many event streams are open now."""

    def __init__(self) -> None:
        self._seen: dict[Kind, Histogram] = {}
        self.streams_open = 0

    def observe(self, kind: Kind, seconds: float) -> None:
        """Count one request."""
        histogram = self._seen.get(kind)
        if histogram is None:
            histogram = self._seen[kind] = Histogram(_BOUNDS)
        histogram.observe(seconds)

    def read(self) -> Mapping[Kind, Distribution]:
        """Seconds until the answer was complete, for every kind of request seen."""
        return {kind: histogram.read() for kind, histogram in self._seen.items()}


class CountRequests:
    """The ASGI layer that feeds RequestMetrics."""

    def __init__(self, app: ASGIApp, metrics: RequestMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and measure it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        metrics, began = self._metrics, time.perf_counter()
        status, streams = 500, False  # what an unforeseen error becomes further out

        async def watched(message: Message) -> None:
            nonlocal status, streams
            if message["type"] == "http.response.start":
                status = message["status"]
                streams = _is_stream(message)
                if streams:
                    metrics.observe(_kind(scope, status), time.perf_counter() - began)
                    metrics.streams_open += 1
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            if streams:
                metrics.streams_open -= 1
            else:
                metrics.observe(_kind(scope, status), time.perf_counter() - began)


def _kind(scope: Scope, status: int) -> Kind:
    method = scope["method"]
    route = getattr(scope.get("route"), "path", None)
    return Kind(method if method in _METHODS else _OTHER, route or _OTHER, f"{status // 100}xx")


def _is_stream(message: Message) -> bool:
    return any(
        name == b"content-type" and value.startswith(_EVENT_STREAM)
        for name, value in message.get("headers", ())
    )
