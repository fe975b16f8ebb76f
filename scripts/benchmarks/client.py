"""A keep-alive HTTP client that costs little: raw sockets, ready-made requests."""

from __future__ import annotations

import itertools
import json
import re
import selectors
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_TIMEOUT_SECONDS = 30.0


class Refused(Exception):
    """The server answered with something else than 2xx."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a closed loop of clients saw."""

    latencies_ms: list[float]
    seconds: float

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latencies_ms) / self.seconds


def get(path: str) -> bytes:
    """The bytes of a GET request."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def post(path: str, content: object) -> bytes:
    """The bytes of a POST request with a JSON body."""
    body = json.dumps(content).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Connection:
    """One connection, one request at a time."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), _TIMEOUT_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, request: bytes) -> None:
        """Send a request; its answer must be received before the next."""
        self.socket.sendall(request)

    def receive(self) -> bytes:
        """The body of the answer. Raises Refused unless the status is 2xx."""
        data = self.socket.recv(1 << 18)
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._more()
        length = _LENGTH.search(data, 0, end)
        if length is None:
            raise Refused(f"an answer without Content-Length: {data[:200]!r}")
        size = end + 4 + int(length[1])
        while len(data) < size:
            data += self._more()
        if not data.startswith(b"HTTP/1.1 20"):
            raise Refused(data[:1000].decode(errors="replace"))
        return data[end + 4 :]

    def _more(self) -> bytes:
        data = self.socket.recv(1 << 18)
        if not data:
            raise ConnectionResetError("the server closed the connection")
        return data

    def ask(self, request: bytes) -> Any:
        """Send a request and read the JSON of its answer."""
        self.send(request)
        return json.loads(self.receive())

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()


def one_by_one(
    port: int, requests: Iterable[bytes], count: int, pause_seconds: float = 0.0
) -> list[float]:
    """Milliseconds each of `count` requests took over one connection."""
    connection, clock = Connection(port), time.perf_counter_ns
    latencies = []
    for request in itertools.islice(itertools.cycle(requests), count):
        if pause_seconds:
            time.sleep(pause_seconds)
        before = clock()
        connection.send(request)
        connection.receive()
        latencies.append((clock() - before) / 1e6)
    connection.close()
    return latencies


def all_at_once(port: int, requests: Iterable[bytes], clients: int, seconds: float) -> Load:
    """Clients that each send their next request as soon as the last is answered."""
    supply, selector = itertools.cycle(requests), selectors.DefaultSelector()
    began = time.perf_counter()
    sent: dict[Connection, float] = {}
    for connection in [Connection(port) for _ in range(clients)]:
        selector.register(connection.socket, selectors.EVENT_READ, connection)
        sent[connection] = time.perf_counter()
        connection.send(next(supply))
    latencies = list(_exchange(selector, sent, supply, began + seconds))
    elapsed = time.perf_counter() - began
    for connection in sent:
        connection.close()
    selector.close()
    return Load(latencies, elapsed)


def _exchange(
    selector: selectors.BaseSelector,
    sent: dict[Connection, float],
    supply: Iterator[bytes],
    until: float,
) -> Iterator[float]:
    waiting = len(sent)
    while waiting:
        for key, _ in selector.select():
            connection: Connection = key.data
            connection.receive()
            now = time.perf_counter()
            yield (now - sent[connection]) * 1e3
            if now < until:
                sent[connection] = now
                connection.send(next(supply))
            else:
                waiting -= 1
