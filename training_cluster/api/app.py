"""The HTTP app: routes, limits and errors put together around the services."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI

from training_cluster import __version__
from training_cluster.api import (
    base_models,
    datasets,
    devices,
    events,
    job_control,
    jobs,
    login,
    logs,
    metrics,
    model_files,
    model_jobs,
    models,
    problems,
    prometheus,
    prune,
    reference,
    status,
    tokens,
    uploads,
    webhooks,
)
from training_cluster.api.auth import Access
from training_cluster.api.body_limit import BodySizes, LimitBody
from training_cluster.api.gate import Door, Gate
from training_cluster.api.late_routes import LateApp, LateRouter
from training_cluster.api.one_slash import OneSlash
from training_cluster.api.request_metrics import CountRequests, RequestMetrics
from training_cluster.api.services import Services
from training_cluster.api.streams import OpenStreams
from training_cluster.domain.errors import (
    AccessDenied,
    Forbidden,
    InvalidRequest,
    TooManyFailures,
)
from training_cluster.services.failures import FailureLimit

Running = Callable[[], AbstractAsyncContextManager[Services]]

_MOST_BODY_BYTES = 1 << 20
_NATIVE = (
    *(status.router, prometheus.router, jobs.router, job_control.router, logs.router),
    *(devices.router, webhooks.router, metrics.router, events.router, tokens.router, login.router),
    *(prune.router, models.router, model_jobs.router, model_files.router, base_models.router),
    *(datasets.router, datasets.json_router, uploads.router, uploads.json_router),
)
_ANYWHERE = (AccessDenied, Forbidden, InvalidRequest, TooManyFailures)  # what any route may answer
_DESCRIPTION = """\
The queue a lab puts in front of its GPU box. Submit a fine-tuning job; it waits for free devices,
LLaMA-Factory runs it, and the model is kept. Errors are RFC 9457 problems with a stable `code`.
"""
_TAGS = [
    {"name": "jobs", "description": "Submit, look, read logs, cancel, pause, resume, retry."},
    {"name": "datasets", "description": "Hand in, look, preview, download, delete."},
    {"name": "models", "description": "What jobs left: look, name, download, delete."},
    {"name": "metrics", "description": "What jobs measure: curves, lines, streams."},
    {"name": "events", "description": "What happens, as a log and as a stream."},
    {"name": "devices", "description": "What the queue hands out, and how to keep it back."},
    {"name": "webhooks", "description": "Slack and other receivers that are told of events."},
    {"name": "disk", "description": "What finished jobs take, and removing it."},
    {"name": "access", "description": "Tokens, and logging in at the page."},
    {"name": "openai", "description": "OpenAI's fine-tuning API: point its clients to /v1."},
    {"name": "lamini", "description": "Lamini's training API: LAMINI_API_URL is this daemon."},
    {"name": "vertesia", "description": "Vertesia's training API, at /api/v1."},
    {"name": "status", "description": "What the daemon says of itself."},
]


def create_app(
    running: Running,
    access: Access,
    *,
    streams_per_user: int = 256,
    upload_bytes: int = 50 << 30,
) -> FastAPI:
    """The app; `running` brings the services up when the server starts, down when it ends."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with running() as services:
            app.state.services = services
            yield

    app = LateApp(
        title="training-cluster",
        version=__version__,
        description=_DESCRIPTION,
        openapi_tags=_TAGS,
        servers=[{"url": "./"}],  # whatever prefix a proxy has put before us
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.streams = OpenStreams(streams_per_user)
    app.state.door = Door(access, FailureLimit())
    app.state.requests = RequestMetrics()
    app.add_middleware(LimitBody, sizes=BodySizes(_MOST_BODY_BYTES, upload_bytes))
    app.add_middleware(Gate, door=app.state.door)
    app.add_middleware(CountRequests, metrics=app.state.requests)
    app.add_middleware(OneSlash)
    problems.install(app)
    app.table.take([reference.router])
    app.table.take(_NATIVE, problems.documented(*_ANYWHERE))
    app.table.take_later(("v1", "v1alpha", "tune", "api"), _dialects)
    return app


def _dialects() -> Iterable[LateRouter]:
    """Most labs speak one dialect or none: the modules of all of them are 3 MB."""
    from training_cluster.api.dialects.routers import ROUTERS

    return ROUTERS
