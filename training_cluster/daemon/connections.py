"""What one connection may take: so many bytes and so long for a request, then it is closed.

uvicorn waits for ever for a request that never becomes complete, and keeps headers without end.
Here a head and a body have a deadline each, heads a size, and when all places are taken the
connection that has kept us waiting longest makes room. Answers under way have no deadline: a
stream lives as long as both ends like it, and so does one whose reader is slow.
"""

from __future__ import annotations

import asyncio
import math
import resource
from dataclasses import dataclass
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from training_cluster.daemon.refusals import (
    FULL,
    LARGE_HEAD,
    LONG_URL,
    MOST_HEAD_BYTES,
    MOST_HEADERS,
    MOST_URL_BYTES,
    NOT_HTTP,
    ODD_BODY,
    SLOW,
    Refusal,
)

_SPARE_FILES = 512  # of the process, for all that is no connection
_SWEEP_SECONDS = 1.0
_ENDED_AT_ONCE = 16
_BREATH_SECONDS = 0.02
_LINGER_SECONDS = 2.0  # what is still on its way is read, or a reset would overtake the refusal
_LEAST_BODY_RATE = 16 << 10  # bytes a second that earn a body more time
# what a body may have beside its bytes: a chunk of one byte takes six on the wire
_MOST_FRAMING_BYTES = 512 << 10
_FRAMING_RATIO = 8


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many connections there may be, and the seconds a client has for the parts of a
    request; a body has a second more for each 16 KiB of it that came. One that has so earned a
    long time may use `stall_seconds` of it in one go."""

    connections: int = 4000
    head_seconds: float = 10.0
    body_seconds: float = 15.0
    stall_seconds: float = 120.0


class _Refused(Exception):
    """Raised inside the parser to leave it; the answer is what `refusal` says."""


class Doorkeeper:
    """Knows every connection; makes the protocol for each new one. One serves several
    listeners, which then share the places."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self._open: set[GuardedProtocol] = set()
        self._most = min(limits.connections, _raise_file_limit(limits.connections))
        self._sweeping: asyncio.TimerHandle | None = None

    def protocol(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> GuardedProtocol:
        """What uvicorn calls for each connection, in place of a class."""
        return GuardedProtocol(self, config, server_state, app_state, _loop)

    def enter(self, connection: GuardedProtocol) -> bool:
        """Give a place to a new connection, if need be that of the one that has kept us waiting
        longest; False when all are at work."""
        if len(self._open) >= self._most and not self._make_room():
            return False
        self._open.add(connection)
        if self._sweeping is None:
            self._sweeping = connection.loop.call_later(_SWEEP_SECONDS, self._sweep)
        return True

    def leave(self, connection: GuardedProtocol) -> None:
        """A connection has ended."""
        self._open.discard(connection)

    def _make_room(self) -> bool:
        waiting = [c for c in self._open if c.waiting_since is not None]
        if not waiting:
            return False
        slowest = min(waiting, key=lambda connection: connection.deadline)
        slowest.give_up()
        self._open.discard(slowest)
        return True

    def _sweep(self) -> None:
        """End what is overdue, some at a time: the rest of the daemon goes on in between. Comes
        back as long as there are connections."""
        self._sweeping = None
        if not self._open:
            return
        loop = next(iter(self._open)).loop
        now = loop.time()
        overdue = [connection for connection in self._open if connection.is_overdue(now)]
        for connection in overdue[:_ENDED_AT_ONCE]:
            connection.give_up()
        pause = _SWEEP_SECONDS if len(overdue) <= _ENDED_AT_ONCE else _BREATH_SECONDS
        self._sweeping = loop.call_later(pause, self._sweep)


class _Outlet:
    """A transport that drops what is written behind its end: a client that has gone is not known
    to the app at once, and uvloop raises where asyncio does not."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send, if there still is somebody."""
        if not self._transport.is_closing():
            self._transport.write(data)


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with an eye on what has come of a request. `waiting_since` (loop time)
    tells since when the client owes us the rest of one."""

    def __init__(self, door: Doorkeeper, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.waiting_since: float | None = None
        self._door = door
        self._in_body = False
        self._lingers = False
        self._raw_bytes = 0  # of the present head or body as they came
        self._body_bytes = 0
        self._came_at = 0.0  # the latest of the body
        self._refusal = NOT_HTTP

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a place, or be turned away."""
        super().connection_made(_Outlet(transport))  # type: ignore[arg-type]
        self._expect_request()
        if not self._door.enter(self):
            transport.write(FULL.to_wire())
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Free the place."""
        self._door.leave(self)
        super().connection_lost(exc)

    def is_overdue(self, now: float) -> bool:
        """Whether the client has had the time for the part of the request it is at."""
        return now > self.deadline

    @property
    def deadline(self) -> float:
        """Until when (loop time) the part of the request we wait for must have come; infinite
        when we wait for nothing, or have told the client to wait."""
        if self.waiting_since is None:
            return math.inf
        limits = self._door.limits
        if self._lingers:
            return self.waiting_since + _LINGER_SECONDS
        if not self._in_body:
            return self.waiting_since + limits.head_seconds
        if self._is_answered():
            return self.waiting_since + limits.body_seconds
        if self.flow.read_paused:
            return math.inf
        earned = limits.body_seconds + self._body_bytes / _LEAST_BODY_RATE
        return min(self.waiting_since + earned, self._came_at + limits.stall_seconds)

    def give_up(self) -> None:
        """Close; say why where something came and no answer is under way. Who does not even take
        what closes the connection is cut off at the next look."""
        if self.transport.is_closing():
            self.transport.abort()
            return
        if self._in_body or self._raw_bytes:
            self._tell(SLOW)
        self.transport.close()

    def data_received(self, data: bytes) -> None:
        """Feed the parser and see to it that it is not fed without end.

        In place of uvicorn's, which logs a line for whatever anybody sends."""
        if self._lingers:
            return
        self._unset_keepalive_if_required()
        if self.waiting_since is None and self._is_answered():
            self._expect_request()  # the first bytes behind an answer
        self._feed(data)
        self._raw_bytes += len(data)
        if self.waiting_since is None or self._lingers:
            return
        if not self._in_body and self._raw_bytes > 2 * MOST_HEAD_BYTES:
            self._refuse(LARGE_HEAD)
        elif self._in_body and self._is_mostly_frame():
            self._refuse(ODD_BODY)

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # we offer no other protocol: the request is answered as it is
        except httptools.HttpParserError:
            self._refuse(self._refusal)

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        if self.waiting_since is None:
            self._expect_request()

    def on_url(self, url: bytes) -> None:
        """The address, or a part of it."""
        super().on_url(url)
        if len(self.url) > MOST_URL_BYTES:
            self._leave_parser(LONG_URL)

    def on_headers_complete(self) -> None:
        """The head is there: from here on a body may come."""
        size = sum(len(name) + len(value) + 4 for name, value in self.headers)
        if len(self.headers) > MOST_HEADERS or size > MOST_HEAD_BYTES:
            self._leave_parser(LARGE_HEAD)
        self._in_body, self._raw_bytes, self._body_bytes = True, 0, 0
        self.waiting_since = self._came_at = self.loop.time()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._body_bytes += len(body)
        self._came_at = self.loop.time()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """All of the request is there: now it is our turn."""
        self.waiting_since = None
        super().on_message_complete()

    def _expect_request(self) -> None:
        self.waiting_since, self._in_body, self._raw_bytes = self.loop.time(), False, 0

    def _is_answered(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _is_mostly_frame(self) -> bool:
        return self._raw_bytes > _MOST_FRAMING_BYTES + _FRAMING_RATIO * self._body_bytes

    def _leave_parser(self, refusal: Refusal) -> None:
        """Raises; for httptools that is an error like any other."""
        self._refusal = refusal
        raise _Refused(refusal.code)

    def _refuse(self, refusal: Refusal) -> None:
        """Answer, then read on for a moment and end; where another answer is under way, end."""
        if not self._tell(refusal):
            self.transport.close()
            return
        self._lingers, self.waiting_since = True, self.loop.time()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _tell(self, refusal: Refusal) -> bool:
        """Answer in place of the app, which hears that the client has gone."""
        if self._lingers or self.pipeline or not (self._is_answered() or self._is_incomplete()):
            return False
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.write(refusal.to_wire())
        return True

    def _is_incomplete(self) -> bool:
        """Whether the app waits for the rest of the present request and has said nothing yet."""
        waits = self._in_body and self.waiting_since is not None
        return waits and not self.cycle.response_started


def _raise_file_limit(connections: int) -> int:
    """Have the process open as many files as so many connections need, as far as its hard limit
    allows; returns how many connections that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _SPARE_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return connections if soft == resource.RLIM_INFINITY else max(soft - _SPARE_FILES, 64)
