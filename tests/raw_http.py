"""Bytes over a socket, for requests that no HTTP library would send."""

from __future__ import annotations

import contextlib
import socket
import time
from dataclasses import dataclass
from typing import Any

import pydantic_core


@dataclass(frozen=True)
class Heard:
    """What came back: everything until the daemon closed, or until `seconds` had passed."""

    data: bytes
    closed: bool
    seconds: float

    @property
    def status(self) -> int | None:
        """Of the first answer; None when there was none."""
        return int(self.data[9:12]) if self.data[:9] == b"HTTP/1.1 " else None

    @property
    def statuses(self) -> list[int]:
        """Of all answers, as far as they can be told from bodies."""
        parts = self.data.split(b"HTTP/1.1 ")[1:]
        return [int(part[:3]) for part in parts if part[:3].isdigit()]

    @property
    def problem(self) -> dict[str, Any]:
        """The body of the first answer."""
        return dict(pydantic_core.from_json(self.data.partition(b"\r\n\r\n")[2]))


def talk(port: int, *pieces: bytes, seconds: float = 5.0, pause: float = 0.0) -> Heard:
    """Send pieces one after the other and listen until the other side closes."""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        for piece in pieces:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(piece)
            time.sleep(pause)
        data, closed = listen(connection, began + seconds - time.monotonic())
    return Heard(data, closed, time.monotonic() - began)


def listen(connection: socket.socket, seconds: float) -> tuple[bytes, bool]:
    """What comes in so many seconds, and whether the other side closed."""
    data, deadline = b"", time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        connection.settimeout(left)
        try:
            piece = connection.recv(65536)
        except TimeoutError:
            break
        except ConnectionResetError:
            return data, True
        if not piece:
            return data, True
        data += piece
    return data, False
