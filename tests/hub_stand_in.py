"""A hub on loopback that answers as huggingface.co does for datasets; nobody asks the real one."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" * 6


class HubStandIn:
    """Serves `files` by dataset and name. A dataset in `private` wants its token. Files come by
    way of a redirect to another host name, which must never be shown the token."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, str] = {}
        self.failures = 0  # so many requests are answered by 503 first
        self.shown_to_store: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub.answer(self)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        path = unquote(urlsplit(handler.path).path)
        said = handler.headers.get("Authorization", "")
        if path.startswith("/store/"):
            self.shown_to_store.append(said)
            dataset, _, name = path.removeprefix("/store/").partition("//")
            self._send(handler, 200, self.files[dataset][name])
            return
        if self.failures:
            self.failures -= 1
            self._send(handler, 503, b"later")
            return
        dataset = "/".join(path.removeprefix("/api").split("/")[2:4])
        if dataset not in self.files:
            self._send(handler, 404, b'{"error": "Repository not found"}')
        elif said != f"Bearer {self.private[dataset]}" if dataset in self.private else False:
            self._send(handler, 401, b'{"error": "Invalid credentials"}')
        elif path.startswith("/api/"):
            self._send(handler, 200, self._told(dataset))
        else:
            name = path.partition(f"/resolve/{COMMIT}/")[2]
            place = f"http://localhost:{self.port}/store/{dataset}//{name}"
            self._send(handler, 302, b"", Location=place)

    def _told(self, dataset: str) -> bytes:
        siblings = [
            {"rfilename": name, "size": len(content)}
            for name, content in self.files[dataset].items()
        ]
        return json.dumps({"id": dataset, "sha": COMMIT, "siblings": siblings}).encode()

    def _send(
        self, handler: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str
    ) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
