"""The trainers' logs: read in parts, by byte range, or followed as server-sent events."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import ExitStack, aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from fastapi import Header, HTTPException, Query, Response
from fastapi.responses import PlainTextResponse, StreamingResponse

from training_cluster.api import sse
from training_cluster.api.auth import Caller
from training_cluster.api.late_routes import LateRouter
from training_cluster.api.problems import documented
from training_cluster.api.services import Daemon, Services
from training_cluster.api.streams import HoldsStream
from training_cluster.domain.errors import (
    FieldProblem,
    InvalidRequest,
    JobNotFound,
    NotFound,
    Pruned,
    TooManyStreams,
)
from training_cluster.domain.job import FINISHED, Attempt
from training_cluster.domain.principal import Principal
from training_cluster.services import log_files
from training_cluster.services.jobs import Overview
from training_cluster.services.log_follow import Start
from training_cluster.services.log_tail import LogPiece, PieceKind
from training_cluster.services.log_text import readable

router = LateRouter(tags=["jobs"])

_TEXT = "text/plain; charset=utf-8"
_BLOCK = 256 << 10
_RANGE = re.compile(r"bytes=(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))", re.ASCII)
_END_ID = "end"
_EVENT_ID = re.compile(r"([1-9]\d{0,8}):(\d{1,18})", re.ASCII)

_EXAMPLE = "{'loss': 1.92, 'epoch': 0.67}\n"
_HEADERS: dict[str, Any] = {
    "X-Job-Status": {"schema": {"type": "string"}, "description": "the job's status"},
    "X-Attempt": {"schema": {"type": "integer"}, "description": "whose log this is"},
    "X-Next-Offset": {"schema": {"type": "integer"}, "description": "where to go on"},
}
_LOG = {
    "description": "The log, or a part of it; at most 4 MiB of the raw log.",
    "content": {"text/plain": {"example": _EXAMPLE}},
    "headers": {
        **_HEADERS,
        "X-Unfinished-Line": {
            "schema": {"type": "string"},
            "description": "`true`: the last line is still being written; it is read again, "
            "whole, from X-Next-Offset",
        },
    },
}
_PARTIAL = {
    "description": "The bytes that `Range` asks for, as the trainer wrote them.",
    "content": {"text/plain": {"example": _EXAMPLE}},
    "headers": {
        **_HEADERS,
        "Content-Range": {"schema": {"type": "string"}, "description": "bytes a-b/size"},
    },
}
_UNSATISFIABLE = {
    "description": "The log has no such bytes.",
    "content": {
        "application/problem+json": {
            "schema": {"$ref": "#/components/schemas/ProblemView"},
            "example": {
                "type": "range_not_satisfiable",
                "title": "the log has 1024 bytes",
                "status": 416,
                "code": "range_not_satisfiable",
            },
        }
    },
}
_STREAM = (
    sse.frame('{"attempt":1}', event="attempt", id="1:0")
    + sse.frame("loading\n", event="log", id="1:8")
    + sse.frame(" 50%|#####     | 5/10", event="bar")
    + sse.frame('{"status":"completed"}', event="end", id=_END_ID)
)

_AttemptNumber = Annotated[int | None, Query(ge=1, description="None: the latest.")]
_Tail = Annotated[int | None, Query(ge=0, le=100_000, description="Last lines.")]


@router.get(
    "/train/{job_id}/logs",
    summary="Read what the trainer printed",
    response_class=PlainTextResponse,
    responses={200: _LOG, 206: _PARTIAL, 416: _UNSATISFIABLE, **documented(JobNotFound, Pruned)},
)
async def get_logs(
    job_id: str,
    daemon: Daemon,
    caller: Caller,
    attempt: _AttemptNumber = None,
    tail: _Tail = None,
    offset: Annotated[
        int | None,
        Query(ge=0, le=1 << 60, description="First byte. For following: complete lines only."),
    ] = None,
    raw: Annotated[bool, Query(description="The bytes as the trainer wrote them.")] = False,
    range_: Annotated[str | None, Header(alias="Range")] = None,
) -> Response:
    """`X-Next-Offset` tells where to go on, `X-Job-Status` whether more may come. Text is made
    readable: without escape sequences, progress bars in their last state. Offsets and `Range`
    count the bytes the trainer wrote. An answer can be empty although `X-Next-Offset` moves on:
    over states of a progress bar that are gone."""
    overview = await _own(daemon, job_id, caller)
    chosen = _choose(overview, attempt)
    headers = {"X-Job-Status": overview.job.state.value, "Accept-Ranges": "bytes"}
    if chosen is not None:
        headers["X-Attempt"] = str(chosen.ref.number)
    wanted = _RANGE.fullmatch(range_ or "")
    if wanted is not None and _is_range(wanted):
        return await _range(chosen, wanted, headers)
    if chosen is None:
        return Response(b"", 200, {**headers, "X-Next-Offset": "0"}, _TEXT)
    read = _raw if raw else _readable
    return await asyncio.to_thread(read, chosen, tail, offset, headers)


@router.get(
    "/train/{job_id}/logs/stream",
    summary="Follow what the trainer prints",
    response_class=StreamingResponse,
    responses={
        200: sse.documented(_STREAM, "The log as it grows, through all attempts."),
        204: {"description": "The client has seen the end of the job: nothing follows."},
        **documented(JobNotFound, TooManyStreams, Pruned),
    },
)
async def stream_logs(
    job_id: str,
    daemon: Daemon,
    caller: Caller,
    _: HoldsStream,
    attempt: _AttemptNumber = None,
    tail: _Tail = None,
    offset: Annotated[int, Query(ge=0, le=1 << 60, description="First byte.")] = 0,
    last_event_id: Annotated[str | None, Header(description="Go on behind this event.")] = None,
) -> Response:
    """Server-sent events until the job has ended: `log` (text; all of it put together is the
    readable log), `bar` (the present state of a line being written, at most one a second),
    `attempt` (an attempt's log begins) and `end` (with the job's status). Begins at the start of
    the latest attempt's log, or at its last `tail` lines, or at `offset`."""
    overview = await _own(daemon, job_id, caller)
    if last_event_id == _END_ID and overview.job.state in FINISHED:
        return Response(status_code=204)  # tells an EventSource to come back no more
    if last_event_id and last_event_id != _END_ID:
        start = _resumed(last_event_id)
    else:
        start = Start(attempt, offset, tail)
    _choose(overview, start.attempt)
    return sse.respond(_frames(daemon.logs.follow(overview, start)))


async def _own(daemon: Services, job_id: str, caller: Principal) -> Overview:
    """A job whose logs the caller may read: they show data. Raises JobNotFound and Forbidden."""
    overview = await daemon.jobs.get(job_id)
    caller.require_ownership(overview.job.user, f"the log of job {overview.job.number}")
    return overview


def _choose(overview: Overview, number: int | None) -> Attempt | None:
    chosen = _find(overview, number)
    pruned = (overview.job.pruned or {}).get("logs")
    if chosen is not None and pruned is not None and not _path(chosen).exists():
        day = datetime.fromtimestamp(pruned["at"], UTC).strftime("%Y-%m-%d")
        raise Pruned(f"the logs of job {overview.job.number} were removed on {day} to make room")
    return chosen


def _find(overview: Overview, number: int | None) -> Attempt | None:
    if number is None:
        return overview.attempts[-1] if overview.attempts else None
    for attempt in overview.attempts:
        if attempt.ref.number == number:
            return attempt
    raise NotFound(f"job {overview.job.number} has no attempt {number}")


# -- reading


def _path(attempt: Attempt) -> Path:
    return Path(attempt.directory) / log_files.LOG_NAME


def _raw(
    attempt: Attempt, tail: int | None, offset: int | None, headers: dict[str, str]
) -> Response:
    path = _path(attempt)
    start = (offset or 0) if tail is None else log_files.tail_start(path, tail)
    data, end = log_files.read_raw(path, start, log_files.MOST_BYTES)
    return Response(data, 200, {**headers, "X-Next-Offset": str(end)}, _TEXT)


def _readable(
    attempt: Attempt, tail: int | None, offset: int | None, headers: dict[str, str]
) -> Response:
    path, is_over = _path(attempt), attempt.ended_at is not None
    start = offset or 0
    if tail is not None:
        start = log_files.tail_start(path, tail, is_over=is_over)
    part = log_files.read_text(path, start, whole=is_over)
    text, end = ("", start) if tail == 0 else (part.text, part.end)
    # a look shows the line being written, too; a follower waits until it is complete
    if part.rest and tail != 0 and (offset is None or tail is not None):
        text += readable(part.rest)
        headers = {**headers, "X-Unfinished-Line": "true"}
    return Response(text, 200, {**headers, "X-Next-Offset": str(end)}, _TEXT)


# -- byte ranges


def _is_range(wanted: re.Match[str]) -> bool:
    """A range that ends before it begins is none, and as if it had not been sent."""
    first, last, _ = wanted.groups()
    return not (first and last) or int(first) <= int(last)


async def _range(
    attempt: Attempt | None, wanted: re.Match[str], headers: dict[str, str]
) -> Response:
    held = ExitStack()
    file = None
    if attempt is not None:
        file = await asyncio.to_thread(held.enter_context, log_files.opened(_path(attempt)))
    size = 0 if file is None else file.size
    first, last, suffix = wanted.groups()
    start = int(first) if first else max(0, size - int(suffix))
    end = min(int(last) + 1, size) if last else size
    if file is None or start >= end:
        held.close()
        unknown = {**headers, "Content-Range": f"bytes */{size}"}
        raise HTTPException(416, f"the log has {size} bytes", unknown)
    headers = {
        **headers,
        "Content-Range": f"bytes {start}-{end - 1}/{size}",
        "Content-Length": str(end - start),
        "X-Next-Offset": str(end),
    }
    return StreamingResponse(_blocks(file, held, start, end), 206, headers, _TEXT)


async def _blocks(
    file: log_files.LogFile, held: ExitStack, start: int, end: int
) -> AsyncIterator[bytes]:
    """Read on from the open file: it may be removed meanwhile."""
    with held:
        while start < end:
            data = await asyncio.to_thread(file.read, start, min(_BLOCK, end - start))
            if not data:  # shorter than it was
                return
            start += len(data)
            yield data


# -- following


def _resumed(event_id: str) -> Start:
    found = _EVENT_ID.fullmatch(event_id)
    if found is None:
        problem = FieldProblem("Last-Event-ID", "not an id of this stream", "attempt:offset")
        raise InvalidRequest("Last-Event-ID is not one of ours", problems=(problem,))
    return Start(int(found[1]), int(found[2]), resumed=True)


async def _frames(pieces: AsyncGenerator[LogPiece | None, None]) -> AsyncIterator[bytes | None]:
    async with aclosing(pieces):
        async for piece in pieces:
            yield None if piece is None else _frame(piece)


def _frame(piece: LogPiece) -> bytes:
    """Made for the first stream, used by all."""
    if piece.wire is None:
        piece.wire = sse.frame(_data(piece), event=piece.kind.value, id=_event_id(piece))
    return piece.wire


def _data(piece: LogPiece) -> str:
    if piece.kind is PieceKind.ATTEMPT:
        return json.dumps({"attempt": piece.attempt})
    if piece.kind is PieceKind.END:
        return json.dumps({"status": piece.text})
    return piece.text


def _event_id(piece: LogPiece) -> str | None:
    if piece.kind is PieceKind.BAR:
        return None
    if piece.kind is PieceKind.END:
        return _END_ID
    return f"{piece.attempt}:{piece.offset}"
