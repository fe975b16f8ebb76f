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

from training_cluster.adapters.peer_user import KernelPeers
from training_cluster.api.app import create_app
from training_cluster.api.auth import Access
from training_cluster.api.services import Services
from training_cluster.daemon.composition import Daemon
from training_cluster.domain.errors import CannotStart, PortInUse
from training_cluster.logs import configure_logging
from training_cluster.settings import Settings
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
                daemon = Daemon(settings)
                _on_signals(daemon.close_streams)
                try:
                    await daemon.start(after_seconds=0.0 if bound else _BIND_SECONDS)
                    yield daemon.services
                finally:
                    await daemon.stop()
        except CannotStart as error:
            _refuse(error)

    return create_app(running, Access(settings.auth, KernelPeers()))


def _on_signals(call: Callable[[], None]) -> None:
    """Have the event loop call something when the server is told to end, beside what the server
    does: it waits for open connections, and a stream would stay open."""
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        before = signal.getsignal(number)

        def handle(*arguments: object, before: object = before) -> None:
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


def serve(settings: Settings) -> int:
    """Run the daemon until it is told to stop; returns the exit code."""
    configure_logging(settings.log_format)
    try:
        listener = bind(settings.host, settings.port)
    except CannotStart as error:
        _refuse(error)
        return 1
    port = listener.getsockname()[1]
    log.info("listening", action="daemon.listen", url=f"http://{settings.host}:{port}")
    config = uvicorn.Config(
        build_app(settings.model_copy(update={"port": port}), bound=True),
        log_config=None,
        access_log=False,
        ws="none",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        h11_max_incomplete_event_size=64 << 10,
    )
    _end_cleanly_on_signals()
    uvicorn.Server(config).run(sockets=[listener])
    return 0


def _end_cleanly_on_signals() -> None:
    """uvicorn shuts down on a signal and then raises it again: by then it means exit status 0."""

    def leave(*_: object) -> None:
        sys.exit(0)

    for number in _SIGNALS:
        signal.signal(number, leave)
