"""A stand-in for the model hub: real HTTP in the words that huggingface_hub uses to fetch a model.

No hub can be reached where these tests run. What it serves is one repository; with a token it is
private. Bodies come in small pieces with a pause between them, so that a test can cut one off.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_PIECE_BYTES = 64 * 1024


@dataclass
class HubStandIn:
    """Serves `files` of the repository `name` at `url`; `asked` are the requests it got, each with
    its Range and Authorization."""

    name: str
    files: dict[str, bytes]
    token: str | None = None
    pause_seconds: float = 0.0
    asked: list[tuple[str, str, str | None, str | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.answer(self, with_body=True)

            def do_HEAD(self) -> None:
                hub.answer(self, with_body=False)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """No more answers."""
        self._server.shutdown()
        self._server.server_close()

    def answer(self, handler: BaseHTTPRequestHandler, *, with_body: bool) -> None:
        """Answer one request."""
        headers = handler.headers
        place = handler.path.partition("?")[0]
        shown, wanted = headers.get("Authorization"), headers.get("Range")
        self.asked.append((handler.command, place, wanted, shown))
        if self.token is not None and shown != f"Bearer {self.token}":
            _send(handler, 401, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif place.startswith(f"/api/models/{self.name}/tree/"):
            _send(handler, 200, json.dumps(self._tree()).encode(), {})
        elif place.startswith(f"/api/models/{self.name}"):
            _send(handler, 200, json.dumps(self._described()).encode(), {})
        elif place.startswith(f"/{self.name}/resolve/"):
            self._file(handler, place.split("/", 5)[-1], wanted, with_body=with_body)
        else:
            _send(handler, 404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def _described(self) -> dict[str, Any]:
        siblings = [{"rfilename": n, "size": len(c)} for n, c in self.files.items()]
        return {"id": self.name, "modelId": self.name, "sha": COMMIT, "siblings": siblings,
                "private": self.token is not None, "tags": []}  # fmt: skip

    def _tree(self) -> list[dict[str, Any]]:
        return [
            {"type": "file", "path": name, "size": len(content),
             "oid": hashlib.sha1(content, usedforsecurity=False).hexdigest()}
            for name, content in self.files.items()
        ]  # fmt: skip

    def _file(
        self, handler: BaseHTTPRequestHandler, name: str, wanted: str | None, *, with_body: bool
    ) -> None:
        content = self.files.get(name)
        if content is None:
            _send(handler, 404, b"{}", {"X-Error-Code": "EntryNotFound"})
            return
        first = int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted else 0
        part = content[first:]
        handler.send_response(206 if wanted else 200)
        handler.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        handler.send_header("X-Repo-Commit", COMMIT)
        handler.send_header("Accept-Ranges", "bytes")
        handler.send_header("Content-Length", str(len(part)))
        if wanted:
            whole = len(content)
            handler.send_header("Content-Range", f"bytes {first}-{whole - 1}/{whole}")
        handler.end_headers()
        for start in range(0, len(part), _PIECE_BYTES) if with_body else ():
            handler.wfile.write(part[start : start + _PIECE_BYTES])
            time.sleep(self.pause_seconds)


def _send(
    handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str]
) -> None:
    handler.send_response(status)
    for name, value in {**headers, "Content-Type": "application/json"}.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)
