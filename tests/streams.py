"""Reads the daemon's streams as a browser would."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.daemon_process import DaemonProcess


@dataclass(frozen=True)
class Told:
    """One event of a stream; `id` is empty when it brought none of its own."""

    event: str
    data: Any
    id: str


def stream(daemon: DaemonProcess, path: str, last_id: str = "", **params: Any) -> Iterator[Told]:
    """The events of a stream until it ends; close it to end it early."""
    headers = {"Last-Event-ID": last_id} if last_id else {}
    before = last_id
    with daemon.client.sse(path, params=params, headers=headers, timeout=30) as source:
        assert source.response.status_code == 200, source.response.read()
        for event in source:
            own = event.id if event.id != before else ""
            before = event.id
            if event.data:
                yield Told(event.event, json.loads(event.data), own)
