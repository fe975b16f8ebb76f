"""Serves the daemon over HTTP: the app, the port, the end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog
import uvicorn
from fastapi import FastAPI

from training_cluster.api.app import create_app
from training_cluster.api.services import Services
from training_cluster.daemon import memory
from training_cluster.daemon.choices import choose_access, tunnel_address
from training_cluster.daemon.composition import Daemon
from training_cluster.daemon.connections import ConnectionLimits, Doorkeeper
from training_cluster.daemon.service_manager import ServiceManager
from training_cluster.domain.errors import CannotStart, PortInUse
from training_cluster.domain.spec import GIB
from training_cluster.logs import configure_logging
from training_cluster.settings import LimitSettings, Settings
from training_cluster.state_lock import sole_owner

log = structlog.get_logger(__name__)

# uvicorn brings the app up before it binds: time for it to fail on a port in use
_BIND_SECONDS = 0.2
_SHUTDOWN_SECONDS = 2  # for answers under way: a client that has stopped reading is cut off
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def build_app(settings: Settings, *, bound: bool = False) -> FastAPI:
    """The app with a daemon behind it. `bound` tells that the port is ours already."""

    @asynccontextmanager
    async def running() -> AsyncIterator[Services]:
        if not bound:
            configure_logging(settings.log_format)
        try:
            with sole_owner(settings.state_dir):
                manager, daemon = ServiceManager.of(os.environ), Daemon(settings)
                _on_signals(manager.stopping, daemon.close_streams)
                try:
                    await daemon.start(after_seconds=0.0 if bound else _BIND_SECONDS)
                    manager.ready(f"listening on port {settings.port}", lambda: daemon.is_alive)
                    yield daemon.services
                finally:
                    await manager.close()
                    await daemon.stop()
        except CannotStart as error:
            _refuse(error)

    access = choose_access(settings)
    return create_app(
        running,
        access,
        streams_per_user=settings.limits.streams_per_user,
        upload_bytes=int(settings.datasets.most_gib * GIB),
    )


def _on_signals(*calls: Callable[[], None]) -> None:
    """Have the event loop call something when the server is told to end, beside what the server
    does: it waits for open connections, and a stream would stay open."""
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        before = signal.getsignal(number)

        def handle(*arguments: object, before: object = before) -> None:
            for call in calls:
                loop.call_soon_threadsafe(call)
            if callable(before):
                before(*arguments)

        signal.signal(number, handle)


def _refuse(error: CannotStart) -> None:
    """uvicorn would wrap the one line that matters into a traceback and exit with 3."""
    sys.stderr.write(f"error: {error.message}\n")
    if error.hint:
        sys.stderr.write(f"hint: {error.hint}\n")
    sys.stderr.flush()
    os._exit(1)


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises PortInUse."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise PortInUse(
            f"cannot listen on {host}:{port}: {error.strerror or error}",
            hint="another daemon may run there; give another --port",
        ) from error


def _listen(settings: Settings) -> tuple[list[socket.socket], Settings]:
    """The listening sockets, and the settings with the ports they have got. Raises PortInUse."""
    main = bind(settings.host, settings.port)
    port = main.getsockname()[1]
    log.info("listening", action="daemon.listen", url=f"http://{settings.host}:{port}")
    place = tunnel_address(settings)
    if place is None:
        return [main], settings.model_copy(update={"port": port})
    tunnel = bind(*place)
    host, chosen = place[0], tunnel.getsockname()[1]
    address = f"[{host}]:{chosen}" if ":" in host else f"{host}:{chosen}"
    log.info("listening for tunnels", action="daemon.tunnel", url=f"http://{address}")
    return [main, tunnel], settings.model_copy(update={"port": port, "tunnel": address})


def serve(settings: Settings) -> int:
    """Run the daemon until it is told to stop; returns the exit code."""
    memory.stay_small()
    configure_logging(settings.log_format)
    try:
        listeners, bound = _listen(settings)
    except CannotStart as error:
        _refuse(error)
        return 1
    config = uvicorn.Config(
        build_app(bound, bound=True),
        http=_guarded(settings.limits).protocol,  # type: ignore[arg-type]
        log_config=None,
        access_log=False,
        ws="none",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    _end_cleanly_on_signals()
    uvicorn.Server(config).run(sockets=listeners)
    return 0


def _guarded(limits: LimitSettings) -> Doorkeeper:
    return Doorkeeper(
        ConnectionLimits(
            limits.connections, limits.head_seconds, limits.body_seconds, limits.stall_seconds
        )
    )


def _end_cleanly_on_signals() -> None:
    """uvicorn shuts down on a signal and then raises it again: by then it means exit status 0."""

    def leave(*_: object) -> None:
        sys.exit(0)

    for number in _SIGNALS:
        signal.signal(number, leave)
