"""A stand-in for a W&B server, for tests on a machine that has no network to reach a real one.

It answers on loopback what the client of W&B 0.31 asks for while it records, resumes and syncs
runs: a few GraphQL operations, the file stream, and uploads of files. It says nothing about how
W&B's own server behaves beyond that. What it follows: rows of the history are kept by their offset,
so that a chunk sent twice is there once; a run that exists is found by its id; a wrong key is 401.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "0123456789" * 4
DEFAULT_ENTITY = "lab"
HISTORY, EVENTS = "wandb-history.jsonl", "wandb-events.jsonl"
SUMMARY = "wandb-summary.json"

Document = dict[str, Any]


@dataclass
class Run:
    """What the server has of a run. `history` is rows by offset; `bodies` is files by name."""

    entity: str
    project: str
    name: str
    display_name: str = ""
    config: Document = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    summary: Document = field(default_factory=dict)
    history: dict[int, Document] = field(default_factory=dict)
    events: dict[int, Document] = field(default_factory=dict)
    bodies: dict[str, bytes] = field(default_factory=dict)
    exit_code: int | None = None

    @property
    def rows(self) -> list[Document]:
        """The history in order."""
        return [self.history[offset] for offset in sorted(self.history)]


class Problem(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class WandbStandIn:
    """The server; `runs` is what it holds, by id. `closed_projects` and all entities but
    `entities` are refused; `status` is answered to everything while it is set, and while `mute`
    is set what is asked is done and never answered. While `takes_no_lines` the file stream is
    forbidden."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.entities = {DEFAULT_ENTITY}
        self.closed_projects: set[str] = set()
        self.status: int | None = None
        self.mute = False
        self.takes_no_lines = False
        self.asked: list[str] = []
        self._lock = threading.RLock()
        self._server: ThreadingHTTPServer | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """Its address; the same after every start."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen; answer until `stop`."""
        self._server = _Listener(("127.0.0.1", self._port), _handler(self))
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Go away: connections are refused until the next start."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def answer(self, verb: str, path: str, authorization: str, body: bytes) -> Document:
        """What to answer to a request, which is noted in `asked`."""
        with self._lock:
            if self.status is not None:
                raise Problem(self.status, "the stand-in is told to fail")
            if verb == "PUT":
                return self._take_file(path, body)
            _check_key(authorization)
            if path == "/graphql":
                return self._graphql(json.loads(body))
            found = re.fullmatch(r"/files/([^/]+)/([^/]+)/([^/]+)/file_stream", path)
            if found is None:
                raise Problem(404, f"the stand-in has no {verb} {path}")
            self.asked.append("file_stream")
            if self.takes_no_lines:
                raise Problem(403, "permission denied")
            return self._stream(self._existing(found[3]), json.loads(body))

    def _graphql(self, request: Document) -> Document:
        found = re.search(r"^\s*(?:query|mutation)\s+(\w+)", request["query"], re.MULTILINE)
        operation = found[1] if found else ""
        self.asked.append(operation)
        answers: dict[str, Callable[[Document], Document]] = {
            "ServerFeaturesQuery": lambda _: {"serverInfo": {"features": []}},
            "Viewer": lambda _: {"viewer": _viewer()},
            "RunResumeStatus": self._resume_status,
            "UpsertBucket": self._upsert,
            "CreateRunFiles": self._create_files,
            "Run": self._standing_of,
        }
        if operation not in answers:
            return {"errors": [{"message": f"Cannot query {operation} on a stand-in"}]}
        return {"data": answers[operation](request.get("variables") or {})}

    def _resume_status(self, asked: Document) -> Document:
        run = self.runs.get(asked["name"])
        bucket = None if run is None else {**_bucket(run), **_standing(run)}
        return {"model": {**_project(*self._admitted(asked)), "bucket": bucket}}

    def _standing_of(self, asked: Document) -> Document:
        run = self.runs.get(asked["name"])
        return {"project": {"run": None if run is None else {**_bucket(run), **_standing(run)}}}

    def _upsert(self, asked: Document) -> Document:
        entity, project = self._admitted(asked)
        name = asked.get("name") or base64.b64decode(asked["id"]).decode()
        inserted = name not in self.runs
        run = self.runs.setdefault(name, Run(entity, project, name))
        run.exit_code = run.exit_code if asked.get("id") else None
        run.display_name = asked.get("displayName") or run.display_name or name
        run.config = json.loads(asked.get("config") or "null") or run.config
        run.tags = run.tags if asked.get("tags") is None else asked["tags"]
        run.summary = json.loads(asked.get("summaryMetrics") or "null") or run.summary
        return {"upsertBucket": {"bucket": _bucket(run), "inserted": inserted}}

    def _admitted(self, asked: Document) -> tuple[str, str]:
        entity, project = asked.get("entity") or DEFAULT_ENTITY, asked["project"]
        if entity not in self.entities:
            raise Problem(404, f"entity {entity} not found during upsertBucket")
        if project in self.closed_projects:
            raise Problem(403, "permission denied")
        return entity, project

    def _create_files(self, asked: Document) -> Document:
        run = self._existing(asked["run"])
        files = [
            {"name": name, "uploadUrl": f"{self.url}/storage/{run.name}/{name}"}
            for name in asked["files"]
        ]
        answer = {"runID": _id(run), "uploadHeaders": [], "files": files}
        return {"createRunFiles": answer}

    def _take_file(self, path: str, body: bytes) -> Document:
        _, _, name, file = path.split("/", 3)
        self._existing(name).bodies[file] = body
        return {}

    def _stream(self, run: Run, told: Document) -> Document:
        files = told.get("files") or {}
        for file, rows in ((HISTORY, run.history), (EVENTS, run.events)):
            if file in files:
                first = files[file]["offset"]
                contents = map(json.loads, files[file]["content"])
                rows.update(enumerate(contents, first))
        if SUMMARY in files:
            run.summary = json.loads(files[SUMMARY]["content"][-1])
        if told.get("complete"):
            run.exit_code = told.get("exitcode")
        return {"exitcode": None, "limits": {}}

    def _existing(self, name: str) -> Run:
        if name not in self.runs:
            raise Problem(404, f"run {name} not found")
        return self.runs[name]


class _Listener(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is no error here."""


def _handler(server: WandbStandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            if self.headers["Content-Encoding"] == "gzip":
                body = gzip.decompress(body)
            authorization = self.headers["Authorization"] or ""
            try:
                answer = server.answer(self.command, self.path, authorization, body)
            except Problem as problem:
                self._say(problem.status, {"errors": [{"message": problem.message}]})
            else:
                self._say(200, answer)

        do_PUT = do_POST

        def _say(self, status: int, answer: Document) -> None:
            if server.mute:
                self.close_connection = True
                return
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Nothing to stderr."""

    return Handler


def _check_key(authorization: str) -> None:
    scheme, _, credentials = authorization.partition(" ")
    if scheme != "Basic" or base64.b64decode(credentials).decode().partition(":")[2] != KEY:
        raise Problem(401, "user is not logged in")


def _viewer() -> Document:
    return {
        "id": "viewer",
        "entity": DEFAULT_ENTITY,
        "username": "alice",
        "email": "alice@lab.example",
        "flags": "{}",
        "teams": {"edges": []},
    }


def _id(run: Run) -> str:
    return base64.b64encode(run.name.encode()).decode()


def _project(entity: str, project: str) -> Document:
    return {"id": project, "name": project, "entity": {"id": entity, "name": entity}}


def _bucket(run: Run) -> Document:
    return {
        "id": _id(run),
        "name": run.name,
        "displayName": run.display_name,
        "description": None,
        "config": json.dumps(run.config),
        "sweepName": None,
        "project": _project(run.entity, run.project),
        "historyLineCount": len(run.history),
    }


def _standing(run: Run) -> Document:
    """How far a run has come: what a resumed one continues from."""
    return {
        "summaryMetrics": json.dumps(run.summary),
        "logLineCount": 0,
        "eventsLineCount": len(run.events),
        "historyTail": json.dumps([json.dumps(row) for row in run.rows[-1:]]),
        "eventsTail": "[]",
        "tags": run.tags,
        "notes": None,
        "wandbConfig": json.dumps({"t": 1}),
    }
