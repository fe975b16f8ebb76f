"""GET /metrics: the daemon's figures as Prometheus reads them."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import Header, Request, Response

from training_cluster.api.auth import Caller
from training_cluster.api.late_routes import LateRouter
from training_cluster.api.request_metrics import RequestMetrics
from training_cluster.api.services import Daemon

router = LateRouter(tags=["status"])

_OPENMETRICS = "application/openmetrics-text"
_EXAMPLE = """\
# HELP training_cluster_queue_jobs Jobs that wait.
# TYPE training_cluster_queue_jobs gauge
training_cluster_queue_jobs{priority="0"} 3.0
"""
_DOCUMENTED = {
    "description": "Text exposition format",
    "content": {
        media: {"schema": {"type": "string"}, "example": _EXAMPLE}
        for media in ("text/plain", _OPENMETRICS)
    },
}


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    response_class=Response,
    responses={200: _DOCUMENTED},
)
async def scrape(
    request: Request,
    daemon: Daemon,
    _: Caller,
    accept: Annotated[str, Header(description=f"`{_OPENMETRICS}` for OpenMetrics")] = "",
) -> Response:
    """Queue, attempts, devices, scheduling, deliveries, trackers and HTTP. Names and meanings are
    in docs/prometheus.md."""
    requests: RequestMetrics = request.app.state.requests
    figures = await daemon.monitoring.figures()
    seen, streams = requests.read(), requests.streams_open
    # the library is loaded at the first scrape: who is not watched does not pay for it
    from training_cluster.api import exposition

    render = exposition.openmetrics if _OPENMETRICS in accept else exposition.text
    body, media_type = await asyncio.to_thread(render, figures, seen, streams)
    return Response(body, media_type=media_type)
