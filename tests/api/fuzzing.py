"""Sends cases to a real daemon by the thousand, and tells what was answered."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode

import httpx2
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from tests.api.raw_corpus import Case
from tests.daemon_process import DaemonProcess, eventually

# what a client of another API is told by such a number is no failure of the daemon
SAID = frozenset({594})  # Lamini's: there is no such model
_TOGETHER = 32
_PATIENCE_SECONDS = 0.15  # for an answer: what waits for more is left alone
_MOST_BYTES = 1 << 20
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
_MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)  # of a path nothing is forbidden


class Answers:
    """How often each status came, and the cases whose answer was 500 or above."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.sent = 0
        self.broken: list[tuple[str, int, bytes]] = []

    def note(self, name: str, data: bytes) -> None:
        """What came back for a case; nothing at all is an answer, too."""
        self.sent += 1
        for found in _STATUS.findall(data):
            status = int(found)
            self.statuses[status] += 1
            if status >= 500 and status not in SAID:
                self.broken.append((name, status, data[:600]))

    def __str__(self) -> str:
        kinds = Counter(
            "Lamini's 594" if status in SAID else f"{status // 100}xx"
            for status in self.statuses.elements()
        )
        told = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        return f"{self.sent} cases, {len(self.broken)} answers >= 500 ({told})"


async def send_all(port: int, cases: Iterable[Case], answers: Answers) -> None:
    """Send cases, some at a time, each over a connection of its own."""
    pending = iter(cases)

    async def work() -> None:
        for name, data in pending:
            answers.note(name, await _ask(port, data))

    await asyncio.gather(*(work() for _ in range(_TOGETHER)))


async def _ask(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    heard = b""
    with contextlib.suppress(ConnectionError, TimeoutError):
        writer.write(data)
        while len(heard) < _MOST_BYTES:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                piece = await reader.read(65536)
            if not piece:
                break
            heard += piece
    writer.transport.abort()
    return heard


def send_generated(daemon: DaemonProcess, most: int, answers: Answers) -> None:
    """What schemathesis makes of the documentation, allowed and forbidden, about `most` cases
    shared among the operations."""
    schema = schemathesis.openapi.from_dict(daemon.client.get("/openapi.json").json())
    operations = [found.ok() for found in schema.get_all_operations()]
    share = max(2, most // (2 * len(operations)))
    with httpx2.Client(base_url=daemon.client.base_url, trust_env=False, timeout=20) as client:
        for operation in operations:
            for mode in _MODES if operation.body or operation.query else _MODES[:1]:
                _send_operation(client, operation, mode, share, answers)


def _send_operation(
    client: httpx2.Client, operation: Any, mode: GenerationMode, share: int, answers: Answers
) -> None:
    def send(case: Any) -> None:
        answers.note(f"{mode.value} {operation.label}", _answer(client, case))

    limits = settings(
        max_examples=share, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    with contextlib.suppress(Unsatisfiable):  # nothing about it can be forbidden
        limits(given(case=operation.as_strategy(generation_mode=mode))(send))()


def _answer(client: httpx2.Client, case: Any) -> bytes:
    """The status line and the beginning of the answer. Cases that no HTTP library sends are left
    to the raw corpus."""
    words = case.as_transport_kwargs(base_url=str(client.base_url))
    try:
        request = client.build_request(**_accepted(words))
        with contextlib.closing(client.send(request, stream=True)) as response:
            streams = response.headers.get("content-type", "").startswith("text/event-stream")
            body = b"" if streams else response.read()[:500]
            return b"HTTP/1.1 %d \r\n%s" % (response.status_code, body)
    except (httpx2.InvalidURL, httpx2.LocalProtocolError, UnicodeEncodeError, ValueError):
        return b""


def _accepted(words: dict[str, Any]) -> dict[str, Any]:
    """schemathesis speaks the language of requests."""
    kept = {name: words[name] for name in ("method", "url", "headers", "cookies") if name in words}
    if words.get("params"):
        kept["url"] += "?" + urlencode(words["params"], doseq=True, errors="surrogatepass")
    if "json" in words:
        kept["content"] = json.dumps(words["json"]).encode("utf-8", "surrogatepass")
    elif words.get("data") is not None:
        data = words["data"]
        kept["content"] = data if isinstance(data, str | bytes) else urlencode(data, doseq=True)
    return kept


def assert_well(daemon: DaemonProcess, pid: int) -> None:
    """The daemon lives, is the same, answers and has nothing to tell of an error of its own."""
    assert daemon.process is not None
    assert daemon.process.poll() is None
    assert daemon.process.pid == pid
    eventually(lambda: daemon.client.get("/healthz").status_code == 200)
    wrong = (line for line in daemon.log.splitlines() if _is_error(line))
    lines = [f"{line[:300]} ... {line[-600:]}" for line in wrong]
    assert not lines, lines[:3]


def _is_error(line: str) -> bool:
    return '"level": "error"' in line or '"level": "critical"' in line or "Traceback" in line
