"""The native API's metrics: curves, lines, tables, and the stream of what is being measured."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Annotated, Any

import pydantic_core
from fastapi import Header, Query, Response
from fastapi.responses import StreamingResponse

from training_cluster.api import metric_csv, metric_views, sse
from training_cluster.api.auth import Caller
from training_cluster.api.late_routes import LateRouter
from training_cluster.api.metric_views import CurvesView, LinesView
from training_cluster.api.negotiation import wants_csv
from training_cluster.api.problems import documented
from training_cluster.api.render import decode_cursor, encode_cursor
from training_cluster.api.services import Daemon, answer
from training_cluster.api.streams import HoldsStream
from training_cluster.domain.errors import JobNotFound, TooManyStreams
from training_cluster.domain.job import Job
from training_cluster.domain.metric import Curve, MetricLine
from training_cluster.services.curves import Curves, Measured
from training_cluster.services.feed import Item
from training_cluster.services.history import History, Over

router = LateRouter(tags=["metrics"])

LAST = 2**62
_CURSOR = "line"
_STREAM_EXAMPLE = (
    sse.frame('{"attempt":1}', event="attempt")
    + sse.frame(pydantic_core.to_json(metric_views.LINE).decode(), event="metrics", id="4711")
    + sse.frame('{"status":"completed"}', event="end")
)
_FORMS: dict[str, Any] = {
    "content": {
        "application/json": {
            "examples": {
                "curves": {"value": metric_views.CURVES},
                "lines (full=1)": {"value": metric_views.LINES},
            },
        },
        "text/csv": {"schema": {"type": "string"}, "example": metric_views.CSV},
    },
}


@router.get(
    "/train/{job_id}/metrics",
    summary="Read what a job has measured",
    response_model=CurvesView | LinesView,
    responses={200: _FORMS, **documented(JobNotFound)},
)
async def get_metrics(
    job_id: str,
    daemon: Daemon,
    _: Caller,
    names: Annotated[
        list[str] | None,
        Query(max_length=100, description="Only these, also `a,b`. None: all there are."),
    ] = None,
    points: Annotated[int, Query(ge=10, le=20_000, description="Most points of a curve.")] = 2000,
    full: Annotated[bool, Query(description="Every line in the order it was logged.")] = False,
    cursor: Annotated[
        str | None, Query(max_length=64, description="With full: next_cursor of the page before.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=5000, description="With full: lines of a page.")] = 1000,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> Response:
    """Curves at the size of a screen, thinned out so that peaks stay; of several values at one
    step the last one wins. With `full` the lines themselves, page by page. `Accept: text/csv`
    gives a table of every step, with `full` of every line. What a later attempt did again is
    left out."""
    if full and not wants_csv(accept):
        job = await daemon.history.job(job_id)
        after = 0 if cursor is None else decode_cursor(cursor, _CURSOR)
        return answer(await _page(daemon.curves, job, names, after, limit))
    measured = await daemon.curves.measured(job_id)
    chosen = _chosen(measured, names)
    if wants_csv(accept):
        return _csv(daemon.curves, measured.job, chosen, merge=not full)
    found = daemon.curves.curves(measured.job, chosen, points)
    return StreamingResponse(_body(measured, found), media_type="application/json")


def _wanted(names: Sequence[str]) -> set[str]:
    return {name.strip() for text in names for name in text.split(",")}


def _chosen(measured: Measured, names: Sequence[str] | None) -> tuple[str, ...]:
    if names is None:
        return measured.names
    wanted = _wanted(names)
    return tuple(name for name in measured.names if name in wanted)


async def _body(measured: Measured, found: AsyncIterator[Sequence[Curve]]) -> AsyncIterator[bytes]:
    """A CurvesView, written while its curves are read."""
    job = measured.job
    head = {"job_id": job.id, "status": job.state.value, "names": measured.names}
    yield pydantic_core.to_json(head)[:-1] + b',"curves":['
    separator = b""
    async for curves in found:
        for curve in curves:
            yield separator + pydantic_core.to_json(_curve(curve))
            separator = b","
    yield b"]}"


def _curve(curve: Curve) -> dict[str, Any]:
    return {
        "name": curve.name,
        "steps": curve.steps,
        "times": curve.times,
        "values": curve.values,
        "points": curve.points,
        "downsampled": curve.points > len(curve.steps),
    }


async def _page(
    curves: Curves, job: Job, names: Sequence[str] | None, after: int, limit: int
) -> dict[str, Any]:
    lines = await curves.lines(job, after, limit + 1)
    more = len(lines) > limit
    wanted = None if names is None else _wanted(names)
    shown = [_line(line, wanted) for line in lines[:limit]]
    return {
        "lines": [line for line in shown if line["values"]],
        "next_cursor": encode_cursor(lines[limit - 1].sequence, _CURSOR) if more else None,
    }


def _line(line: MetricLine, wanted: set[str] | None = None) -> dict[str, Any]:
    values = line.values
    if wanted is not None:
        values = {name: value for name, value in values.items() if name in wanted}
    return {
        "sequence": line.sequence,
        "attempt": line.attempt_number,
        "source": line.source.value,
        "step": line.step,
        "time": line.time,
        "values": values,
    }


def _csv(curves: Curves, job: Job, names: Sequence[str], *, merge: bool) -> Response:
    async def read(after: int, limit: int) -> list[MetricLine]:
        return await curves.lines(job, after, limit)

    name = f'attachment; filename="job-{job.number}-metrics.csv"'
    return StreamingResponse(
        metric_csv.table(read, names, merge=merge),
        media_type="text/csv; charset=utf-8; header=present",
        headers={"Content-Disposition": name, "Vary": "Accept"},
    )


@router.get(
    "/train/{job_id}/metrics/stream",
    summary="Follow what a job measures",
    response_class=StreamingResponse,
    responses={
        200: sse.documented(_STREAM_EXAMPLE, "Server-sent events, until the job has ended."),
        **documented(JobNotFound, TooManyStreams),
    },
)
async def follow_metrics(
    job_id: str,
    daemon: Daemon,
    _: HoldsStream,
    after: Annotated[int, Query(ge=0, le=LAST, description="The sequence to go on behind.")] = 0,
    last_event_id: Annotated[str | None, Header(max_length=100)] = None,
) -> Response:
    """Every line as an event `metrics` whose id is its sequence number, from the first on. An
    event `attempt` says which attempt the following lines are of: a retry may go back to earlier
    steps, which it then replaces. When the job has ended and everything was sent, `end` tells how.
    A client that sends `Last-Event-ID` misses nothing and gets nothing twice."""
    start = sse.last_number(last_event_id, after)
    job = await daemon.history.job(job_id)
    return sse.respond(_frames(daemon.history, job, start))


async def _frames(history: History, job: Job, after: int) -> AsyncIterator[bytes | None]:
    attempt = None
    async with aclosing(history.follow_lines(job, after)) as told:
        async for item in told:
            if item is None:
                yield None
            elif isinstance(item, Over):
                yield sse.end(item.status)
            else:
                if item.content.attempt_number != attempt:
                    attempt = item.content.attempt_number
                    yield sse.frame(f'{{"attempt":{attempt}}}', event="attempt")
                yield _frame(item)


def _frame(item: Item[MetricLine]) -> bytes:
    if item.wire is None:
        data = pydantic_core.to_json(_line(item.content)).decode()
        item.wire = sse.frame(data, event="metrics", id=str(item.sequence))
    return item.wire
