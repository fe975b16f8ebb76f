"""Reads a stream of the daemon to its end, over as many connections as that takes.

Each event has an id; a connection that is lost is made again, and what was missed comes first.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from training_cluster.client.errors import CannotConnect, ClientError
from training_cluster.client.wire import Wire

_RETRY_SECONDS = 0.5
_END = "end"


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event: its name (`message` where it has none of its own) and the JSON it carries."""

    name: str
    data: dict[str, Any]


def follow(
    wire: Wire, path: str, params: Mapping[str, Any], patience_seconds: float
) -> Iterator[StreamEvent]:
    """The events of a stream; an event `end` is the last. A daemon that is away for
    `patience_seconds` ends it with CannotConnect; one that refuses, with ApiError at once."""
    last_id, alone_since = "", None
    while True:
        try:
            for event_id, event in _connection(wire, path, params, last_id):
                last_id, alone_since = event_id, None
                if event is None:
                    continue
                yield event
                if event.name == _END:
                    return
        except CannotConnect:
            alone_since = alone_since or time.monotonic()
            if time.monotonic() - alone_since >= patience_seconds:
                raise
        time.sleep(_RETRY_SECONDS)


def _connection(
    wire: Wire, path: str, params: Mapping[str, Any], last_id: str
) -> Iterator[tuple[str, StreamEvent | None]]:
    """The events of one connection, each with the id to go on behind; None is no event but says
    that the connection stands."""
    headers = {"Last-Event-ID": last_id} if last_id else {}
    with wire.events(path, params=params, headers=headers) as source:
        yield last_id, None
        for event in source:
            last_id = event.id or last_id
            yield last_id, StreamEvent(event.event, _data(event.data)) if event.data else None


def _data(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ClientError("the stream is not a daemon's", hint="check the URL")
    return found
