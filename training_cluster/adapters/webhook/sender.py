"""Posts one message to one checked address: resolve once, check every address, connect to it."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from training_cluster.adapters.webhook import answers
from training_cluster.adapters.webhook.addresses import Guard, Target
from training_cluster.adapters.webhook.threads import Busy, Threads
from training_cluster.ports import Receipt

if TYPE_CHECKING:
    import httpx2

MOST_BYTES = 64 * 1024
_MOST_LOOKUPS = 32
_MOST_ADDRESSES = 4

# a name and a port to addresses; blocks, raises OSError
Resolve = Callable[[str, int], Sequence[str]]


class _Refused(Exception):
    """The guard does not let this message out."""


@dataclass(frozen=True, slots=True)
class Message:
    """What goes to whom; `slack` asks for Slack's "ok" in the answer."""

    target: Target
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    slack: bool = False


class Sender:
    """Sends over fresh connections, as a kept one would be shared between names of one address.

    `timeout_seconds` is for all of a try. `resolve` is called in a thread of its own;
    `ssl_context` replaces the system's certificate authorities."""

    def __init__(
        self,
        guard: Guard,
        timeout_seconds: float,
        resolve: Resolve,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._guard = guard
        self._timeout_seconds = timeout_seconds
        self._resolve = resolve
        self._ssl_context = ssl_context
        self._threads = Threads("webhook-lookup", _MOST_LOOKUPS)

    async def post(self, message: Message) -> Receipt:
        """Try once. Never raises."""
        started = time.monotonic()
        answer = _Answer()
        error = await self._attempt(message, answer)
        if answer.status is not None:  # it counts, whatever becomes of the rest of the answer
            error = answers.status_error(answer.status, answer.body, slack=message.slack)
        seconds = time.monotonic() - started
        return Receipt(answer.status, error, answer.retry_after_seconds, seconds)

    async def _attempt(self, message: Message, answer: _Answer) -> str | None:
        """What kept the answer from being read to its end."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._exchange(message, answer)
        except TimeoutError:
            return f"not delivered: no answer within {self._timeout_seconds:g} s"
        except _Refused as error:
            return f"refused: {error}"
        except Busy:
            return "not delivered: too many names are being looked up"
        except Exception as error:
            return answers.failure(error, message.target.path_parts)
        return None

    async def _exchange(self, message: Message, answer: _Answer) -> None:
        deadline = time.monotonic() + self._timeout_seconds
        addresses = await self._addresses(message.target)
        context = await self._tls()
        # connecting and the handshake each get this long: when the library is interrupted in a
        # handshake, it leaves the socket open
        patience = max(0.01, deadline - time.monotonic()) / (2.2 * len(addresses))
        for left, address in enumerate(addresses, 1 - len(addresses)):
            request = _request(message, address, patience)
            if await _send(request, context, answer, last=not left):
                break

    async def _addresses(self, target: Target) -> list[str]:
        """The addresses to try in order; every one the name has was checked."""
        found = await self._look_up(target)
        if not found:
            raise OSError("the name has no address")
        if not all(self._guard.admits(target, address) for address in found):
            raise _Refused(f"{target.host} leads to an address that is not public")
        return list(dict.fromkeys(found))[:_MOST_ADDRESSES]

    async def _look_up(self, target: Target) -> Sequence[str]:
        if target.is_literal:
            return [target.host]
        return await self._threads.run(lambda: self._resolve(target.host, target.port))

    async def _tls(self) -> ssl.SSLContext:
        if self._ssl_context is None:
            self._ssl_context = await self._threads.run(_system_tls)
        return self._ssl_context


class _Answer:
    """What has arrived so far."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.body = b""
        self.retry_after_seconds: float | None = None

    async def read(self, response: httpx2.Response) -> None:
        value = response.headers.get("retry-after")
        self.retry_after_seconds = answers.retry_after(value, time.time())
        self.status = response.status_code
        async for chunk in response.aiter_raw():
            self.body += chunk[: MOST_BYTES - len(self.body)]
            if len(self.body) >= MOST_BYTES:
                break
        await response.aclose()


async def _send(
    request: httpx2.Request, context: ssl.SSLContext, answer: _Answer, *, last: bool
) -> bool:
    """False when no connection came about and there is another address to try."""
    import httpx2

    # the bare transport: a client would log the address, decode bodies and keep cookies
    transport = httpx2.AsyncHTTPTransport(verify=context, trust_env=False)
    async with transport:
        try:
            response = await transport.handle_async_request(request)
        except (httpx2.ConnectError, httpx2.ConnectTimeout):
            if last:
                raise
            return False
        await answer.read(response)
    return True


def _system_tls() -> ssl.SSLContext:
    """The system's authorities. This and the first import of the library belong in a thread."""
    import httpx2

    return httpx2.create_ssl_context(trust_env=False)


def _request(message: Message, address: str, patience: float) -> httpx2.Request:
    """A request to the address that speaks of the name: Host, SNI and the certificate's check."""
    import httpx2

    target = message.target
    host = f"[{address}]" if ":" in address else address
    return httpx2.Request(
        "POST",
        httpx2.URL(f"{target.scheme}://{host}:{target.port}{target.path}"),
        headers={**message.headers, "host": target.authority, "connection": "close"},
        content=message.body,
        extensions={"sni_hostname": target.host, "timeout": {"connect": patience}},
    )
