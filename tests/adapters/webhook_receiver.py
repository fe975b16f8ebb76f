"""A receiver on loopback that behaves as badly as a test wants, and remembers what it got."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Behaviour = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Got:
    """One request as it arrived."""

    line: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """What arrived at one port. `connections` counts those without a request, too."""

    host: str
    port: int = 0
    connections: int = 0
    got: list[Got] = field(default_factory=list)
    server_names: list[str | None] = field(default_factory=list)

    def url(self, path: str = "/hook", scheme: str = "http") -> str:
        return f"{scheme}://{self.host}:{self.port}{path}"


def answer(status: int, body: bytes = b"", **headers: str) -> Behaviour:
    """An ordinary answer."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await writer.drain()

    return behave


async def hang(writer: asyncio.StreamWriter) -> None:
    """Says nothing, for ever."""
    await asyncio.sleep(3600)


async def close(writer: asyncio.StreamWriter) -> None:
    """Hangs up without a word."""


def drip(status: int | None) -> Behaviour:
    """A byte now and then: in the headers, or in the body when there is a status."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        if status is None:
            writer.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        else:
            writer.write(f"HTTP/1.1 {status} Whatever\r\nContent-Length: 100000\r\n\r\n".encode())
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    return behave


def flood(sent: list[int]) -> Behaviour:
    """A body that never ends, as fast as it is read; adds up what was taken."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"x" * 65536
        while True:
            writer.write(b"10000\r\n" + chunk + b"\r\n")
            await writer.drain()
            sent.append(len(chunk))

    return behave


@asynccontextmanager
async def receiving(
    behave: Behaviour,
    host: str = "127.0.0.1",
    port: int = 0,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Receiver]:
    """A running receiver."""
    receiver = Receiver(host)
    open_connections: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        receiver.connections += 1
        task = asyncio.current_task()
        assert task is not None
        open_connections.add(task)
        task.add_done_callback(open_connections.discard)
        try:
            receiver.got.append(await _read(reader))
            await behave(writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort() if behave is hang else writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    if tls is not None:
        tls.sni_callback = lambda _socket, name, _context: receiver.server_names.append(name)
    server = await asyncio.start_server(serve, host, port, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for task in open_connections:
            task.cancel()
        await asyncio.gather(*open_connections, return_exceptions=True)


async def _read(reader: asyncio.StreamReader) -> Got:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    line, *rest = head.strip().split("\r\n")
    pairs = (text.partition(": ") for text in rest)
    headers = {name.lower(): value for name, _, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Got(line, headers, body)
