"""The HTTP app: routes, limits and errors put together around the services."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI
from starlette.middleware.body_limit import RequestBodyLimitMiddleware

from training_cluster import __version__
from training_cluster.api import (
    devices,
    events,
    jobs,
    logs,
    metrics,
    problems,
    prometheus,
    status,
    webhooks,
)
from training_cluster.api.auth import Access
from training_cluster.api.request_metrics import CountRequests, RequestMetrics
from training_cluster.api.services import Services
from training_cluster.domain.errors import AccessDenied, InvalidRequest

Running = Callable[[], AbstractAsyncContextManager[Services]]

_MOST_BODY_BYTES = 1 << 20
_DESCRIPTION = """\
The queue a lab puts in front of its GPU box. Submit a fine-tuning job; it waits for free devices,
LLaMA-Factory runs it, and the model is kept. Errors are RFC 9457 problems with a stable `code`.
"""
_TAGS = [
    {"name": "jobs", "description": "Submit, look, read logs, cancel."},
    {"name": "metrics", "description": "What jobs measure: curves, lines, streams."},
    {"name": "events", "description": "What happens, as a log and as a stream."},
    {"name": "devices", "description": "What the queue hands out, and how to keep it back."},
    {"name": "webhooks", "description": "Slack and other receivers that are told of events."},
    {"name": "status", "description": "What the daemon says of itself."},
]


def create_app(running: Running, access: Access) -> FastAPI:
    """The app; `running` brings the services up when the server starts, down when it ends."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with running() as services:
            app.state.services = services
            yield

    app = FastAPI(
        title="training-cluster",
        version=__version__,
        description=_DESCRIPTION,
        openapi_tags=_TAGS,
        lifespan=lifespan,
    )
    app.state.access = access
    app.state.requests = RequestMetrics()
    app.add_middleware(RequestBodyLimitMiddleware, max_body_size=_MOST_BODY_BYTES)
    app.add_middleware(CountRequests, metrics=app.state.requests)
    problems.install(app)
    for module in (status, prometheus, jobs, logs, devices, webhooks, metrics, events):
        app.include_router(
            module.router, responses=problems.documented(AccessDenied, InvalidRequest)
        )
    return app
