"""The native API's events: the log of everything that happened, read or followed."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any

import pydantic_core
from fastapi import Header, Query, Response
from fastapi.responses import StreamingResponse

from training_cluster.api import metric_views, sse
from training_cluster.api.auth import Caller
from training_cluster.api.examples import shown
from training_cluster.api.late_routes import LateRouter
from training_cluster.api.metric_views import EventsView
from training_cluster.api.problems import documented
from training_cluster.api.services import Daemon, answer
from training_cluster.api.streams import HoldsStream
from training_cluster.domain.disclosure import event_for
from training_cluster.domain.errors import JobNotFound, TooManyStreams
from training_cluster.domain.event import AUDIT, Event, EventType
from training_cluster.domain.job import Job
from training_cluster.domain.principal import Principal, Role
from training_cluster.services.feed import Item
from training_cluster.services.history import History, Over

router = LateRouter(tags=["events"])

LAST = 2**62
_IDLE_SECONDS = 15.0
_STREAM_EXAMPLE = sse.frame(pydantic_core.to_json(metric_views.EVENT).decode(), id="42")

JobKey = Annotated[str | None, Query(max_length=64, description="Only this job's: id or number.")]
Kind = Annotated[EventType | None, Query(alias="type", description="Only of this type.")]


@router.get(
    "/events",
    summary="Read what has happened",
    responses=shown(EventsView, metric_views.EVENTS, JobNotFound),
)
async def list_events(
    daemon: Daemon,
    caller: Caller,
    after: Annotated[int, Query(ge=0, le=LAST, description="`next` of the page before.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    latest: Annotated[
        bool, Query(description="The latest so many, instead of the first behind `after`.")
    ] = False,
    job: JobKey = None,
    kind: Kind = None,
) -> Response:
    """Events in the order in which they became true. They are never changed and never lost:
    each was stored together with what it tells. Who got in, or did not, is for admins; what a job
    said when it failed, for its owner too."""
    caller.require(Role.ADMIN if kind in AUDIT else Role.VIEWER)
    chosen = None if job is None else await daemon.history.job(job)
    found = await daemon.history.events(
        after, limit, job=chosen, kind=kind, latest=latest, by=caller
    )
    content = {
        "events": [_event(event) for event in found],
        "next": found[-1].sequence if found else after,
    }
    return answer(content)


@router.get(
    "/events/stream",
    summary="Follow what happens",
    response_class=StreamingResponse,
    responses={
        200: sse.documented(
            _STREAM_EXAMPLE, "Server-sent events; those of one job until it has ended."
        ),
        **documented(JobNotFound, TooManyStreams),
    },
)
async def follow_events(
    daemon: Daemon,
    caller: Caller,
    _: HoldsStream,
    after: Annotated[
        int | None,
        Query(ge=0, le=LAST, description="The sequence to go on behind. None: only what is new."),
    ] = None,
    job: JobKey = None,
    kind: Kind = None,
    last_event_id: Annotated[str | None, Header(max_length=100)] = None,
) -> Response:
    """Every event as a message whose id is its sequence number; a client that sends
    `Last-Event-ID` misses nothing. The stream of one job ends with an event `end` that tells how
    the job has ended."""
    caller.require(Role.ADMIN if kind in AUDIT else Role.VIEWER)
    chosen = None if job is None else await daemon.history.job(job)
    if after is None and not last_event_id:
        after = await daemon.history.last_event()
    start = sse.last_number(last_event_id, after or 0)
    return sse.respond(_frames(daemon.history, start, chosen, kind, caller))


async def _frames(
    history: History, after: int, job: Job | None, kind: EventType | None, by: Principal
) -> AsyncIterator[bytes | None]:
    # the client knows from here on where to go on, also if nothing happens for long
    yield sse.start(after)
    sent = time.monotonic()
    async with aclosing(history.follow_events(after, job=job, kind=kind, by=by)) as told:
        async for item in told:
            if isinstance(item, Over):
                yield sse.end(item.status)
            elif (
                item is not None
                and kind in (None, item.content.type)
                and (seen := event_for(item.content, by))
            ):
                yield _frame(item) if seen is item.content else _one_frame(seen)
            elif item is None or time.monotonic() - sent > _IDLE_SECONDS:
                yield None
            else:
                continue
            sent = time.monotonic()


def _frame(item: Item[Event]) -> bytes:
    """Made once for all who may see the whole of it."""
    if item.wire is None:
        item.wire = _one_frame(item.content)
    return item.wire


def _one_frame(event: Event) -> bytes:
    data = pydantic_core.to_json(_event(event), inf_nan_mode="null").decode()
    return sse.frame(data, id=str(event.sequence))


def _event(event: Event) -> dict[str, Any]:
    return {
        "sequence": event.sequence,
        "time": event.time,
        "type": event.type.value,
        "job_id": event.job_id,
        "job": event.job_number,
        "attempt": event.attempt_number,
        "data": event.data,
    }
