"""A stand-in for what forwards requests to the daemon: one hop of zrok, of a proxy or of a TCP
tunnel, on a port of loopback. zrok itself needs an account and the internet."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator

Headers = list[tuple[str, str]]
Rewrite = Callable[[Headers], Headers]

PUBLIC_HOST = "yt036afigd5k.share.zrok.io"


def frontend(headers: Headers) -> Headers:
    """zrok's public frontend: the Host stays that of the browser, and X-Proxy is added."""
    return [("Host", PUBLIC_HOST), *without(headers, "host"), ("X-Proxy", "zrok")]


def stripping(headers: Headers) -> Headers:
    """A sender within one hop: the telling header is gone, and the Host is made a local one."""
    return [("Host", "localhost"), *without(headers, "host", "x-proxy")]


def without(headers: Headers, *names: str) -> Headers:
    """Headers but those named."""
    return [(name, value) for name, value in headers if name.lower() not in names]


class Hop:
    """Forwards every connection to a port of loopback; `rewrite` None touches no byte. A hop that
    rewrites carries one request a connection."""

    def __init__(self, target: int, rewrite: Rewrite | None) -> None:
        self.port = 0
        self._target = target
        self._rewrite = rewrite
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(asyncio.sleep(0.05))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            if self._rewrite is not None:
                head = await reader.readuntil(b"\r\n\r\n")
                inner_writer.write(_rewritten(head, self._rewrite))
            await asyncio.wait(
                {
                    asyncio.ensure_future(_pipe(reader, inner_writer)),
                    asyncio.ensure_future(_pipe(inner_reader, writer)),
                },
                return_when=asyncio.FIRST_COMPLETED,
            )
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            inner_writer.close()
            writer.close()

    def __enter__(self) -> Hop:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)


def _rewritten(head: bytes, rewrite: Rewrite) -> bytes:
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    headers = [*without(rewrite(headers), "connection"), ("Connection", "close")]
    text = "\r\n".join([first, *(f"{name}: {value}" for name, value in headers)])
    return f"{text}\r\n\r\n".encode("latin-1")


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


@contextlib.contextmanager
def hops(target: int, *rewrites: Rewrite | None) -> Iterator[int]:
    """A chain of hops, the outermost first; the port to send to."""
    with contextlib.ExitStack() as stack:
        for rewrite in reversed(rewrites):
            target = stack.enter_context(Hop(target, rewrite)).port
        yield target


CHAINS: dict[str, tuple[Rewrite | None, ...]] = {
    "zrok": (frontend, lambda headers: headers),
    "stripped": (frontend, stripping),
    "tcp": (None, None),
}
