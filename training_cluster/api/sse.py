"""Server-sent events: frames made once and shared by all streams that carry them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from fastapi import Response
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event

from training_cluster.domain.errors import FieldProblem, InvalidRequest
from training_cluster.domain.job import JobState

# OpenAPI 3.2 describes a stream by its items, as FastAPI does for its own
_EVENT_SCHEMA = {
    "type": "object",
    "properties": {
        "data": {"type": "string"},
        "event": {"type": "string"},
        "id": {"type": "string"},
    },
}
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def frame(data: str, *, event: str | None = None, id: str | None = None) -> bytes:  # noqa: A002
    """One event as it goes over the wire."""
    return format_sse_event(data_str=data, event=event, id=id)


def start(after: int) -> bytes:
    """A frame that is no event: a client that loses its connection goes on behind this number."""
    return format_sse_event(id=str(after))


def end(status: JobState) -> bytes:
    """The last event of a job's stream; a client need not come back."""
    return frame(f'{{"status":"{status.value}"}}', event="end")


def respond(frames: AsyncIterator[bytes | None]) -> Response:
    """A stream of frames; None among them keeps the connection alive."""
    return EventSourceResponse(_alive(frames), headers=_HEADERS)


async def _alive(frames: AsyncIterator[bytes | None]) -> AsyncIterator[bytes]:
    async for item in frames:
        yield KEEPALIVE_COMMENT if item is None else item


def last_number(last_event_id: str | None, after: int) -> int:
    """Where a stream goes on: behind `Last-Event-ID` when the client sends one back.

    Raises InvalidRequest when it is not the id of an event of such a stream."""
    if not last_event_id:
        return after
    if last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < 19:
        return int(last_event_id)
    problem = FieldProblem("Last-Event-ID", "not an id of this stream", "the id of an event")
    raise InvalidRequest("Last-Event-ID is not one of ours", problems=(problem,))


def documented(example: bytes, description: str) -> dict[str, Any]:
    """OpenAPI's description of a stream, with an example of what it carries."""
    return {
        "description": description,
        "content": {
            "text/event-stream": {
                "itemSchema": _EVENT_SCHEMA,
                "example": example.decode(),
            }
        },
    }
