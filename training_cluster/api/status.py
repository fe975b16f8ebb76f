"""What the daemon says of itself: the front door, the queue, liveness and readiness."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import Request, Response
from fastapi.responses import HTMLResponse

from training_cluster import __version__
from training_cluster.api import examples, render
from training_cluster.api.auth import Caller
from training_cluster.api.examples import shown
from training_cluster.api.late_routes import LateRouter
from training_cluster.api.links import link
from training_cluster.api.pages import PAGE_HEADERS, is_browser
from training_cluster.api.services import Daemon, Services, answer
from training_cluster.api.views import AboutView, AliveView, QueueStateView, ReadyView
from training_cluster.ui.page import overview_page

router = LateRouter(tags=["status"])

_LINKS = {
    "train": "/train",
    "queue": "/queue",
    "devices": "/devices",
    "health": "/healthz",
    "readiness": "/readyz",
    "docs": "/docs",
    "openapi": "/openapi.json",
}


@router.get(
    "/",
    summary="What is here",
    responses=shown(AboutView, examples.ABOUT),
)
async def front_door(request: Request, daemon: Daemon, caller: Caller) -> Response:
    """JSON for programs; a browser gets a page."""
    content = await _about(daemon)
    if is_browser(request.headers):
        state = render.queue_state(await daemon.queue.state())
        recent = await daemon.jobs.page(state=None, user=None, before=2**62, limit=20)
        shown = [render.summary(job, caller) for job in recent]
        origin = str(request.base_url).rstrip("/")
        return HTMLResponse(
            overview_page(content, state, shown, origin, caller.name), headers=PAGE_HEADERS
        )
    return answer(content)


_READY = {
    "status": "ready",
    "checks": [
        {"name": "store", "ok": True, "detail": "writable", "required": True},
        {
            "name": "tracker mlflow",
            "ok": False,
            "detail": "http://mlflow.lab:5000 does not answer",
            "required": False,
        },
    ],
}


async def _about(daemon: Services) -> dict[str, Any]:
    state = await daemon.queue.state()
    inventory = daemon.devices.latest
    view = render.queue_state(state)
    return {
        "name": "training-cluster",
        "version": __version__,
        "queue_length": view["queue_length"],
        "running": len(view["running"]),
        "devices": view["devices"],
        "device_note": inventory.fault or inventory.note,
        "links": {name: link(path) for name, path in _LINKS.items()},
    }


@router.get("/queue", summary="The queue", responses=shown(QueueStateView, examples.QUEUE))
async def get_queue(daemon: Daemon, _: Caller) -> Response:
    """What runs, what waits in which order and why, and the devices."""
    return answer(render.queue_state(await daemon.queue.state()))


@router.get("/healthz", summary="Is the daemon alive", responses=shown(AliveView, {"status": "ok"}))
async def alive() -> Response:
    """Answers as long as the process does."""
    return answer({"status": "ok"})


@router.get(
    "/readyz",
    summary="Can the daemon do its work",
    responses={**shown(ReadyView, _READY), 503: {"model": ReadyView}},
)
async def ready(daemon: Daemon, _: Caller) -> Response:
    """The store is writable, the scheduler runs, devices can be read; 503 when one does not.
    Trackers are shown too, but nothing waits for them."""
    checks = await daemon.health.checks()
    fine = all(check.ok for check in checks if check.required)
    content = {"status": "ready" if fine else "not ready", "checks": [asdict(c) for c in checks]}
    return answer(content, 200 if fine else 503)
