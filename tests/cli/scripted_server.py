"""A small HTTP server on a real socket that answers as a test tells it to."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass
class Request:
    """What came in."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any = None
    raw: bytes = b""


@dataclass
class Reply:
    """What goes out; `broken` closes the connection instead."""

    content: Any = field(default_factory=dict)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    broken: bool = False


Script = Callable[[Request], Reply]


class ScriptedServer:
    """Keeps every request, answers each by the script."""

    def __init__(self, script: Script) -> None:
        self.requests: list[Request] = []
        self.script = script
        self.port = 0
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen, on the same port as before if there was one."""
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), _handler(self))
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Stop listening."""
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def scripted(script: Script) -> Iterator[ScriptedServer]:
    """A running server."""
    server = ScriptedServer(script)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def unused_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _handler(server: ScriptedServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            request = self._read()
            server.requests.append(request)
            reply = server.script(request)
            if reply.broken:
                self.close_connection = True
                return
            self._send(reply)

        def _read(self) -> Request:
            url = urlsplit(self.path)
            text = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = json.loads(text) if text else None
            return Request(self.command, url.path, dict(parse_qsl(url.query)), headers, body, text)

        def _send(self, reply: Reply) -> None:
            content = reply.content
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_DELETE = _answer

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    return Handler


def always(content: Any, status: int = 200, **headers: str) -> Script:
    return lambda _: Reply(content, status, {k.replace("_", "-"): v for k, v in headers.items()})


def in_turn(*replies: Reply) -> Script:
    """Each reply once, the last one for ever."""
    left = list(replies)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


def a_job(status: str = "running", **fields: Any) -> dict[str, Any]:
    return {"job_id": "u-7", "number": 7, "status": status, **fields}
