"""Streams over broken connections: nothing is lost, nothing comes twice, patience has an end."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from tests.cli.scripted_server import Reply, Request, always, in_turn, scripted, unused_port
from training_cluster.api import metric_views
from training_cluster.client import ApiError, CannotConnect, Client, ClientError, history, streaming

SSE = {"Content-Type": "text/event-stream"}
END = b'event: end\ndata: {"status":"completed"}\n\n'


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "_RETRY_SECONDS", 0.01)


def line(number: int) -> bytes:
    return b'event: metrics\ndata: {"sequence":%d,"step":%d}\nid: %d\n\n' % (number, number, number)


def piece(*frames: bytes) -> Reply:
    return Reply(b"".join(frames), headers=SSE)


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (history.Curve, metric_views.CurveView),
        (history.Metrics, metric_views.CurvesView),
        (history.MetricLine, metric_views.LineView),
        (history.Event, metric_views.EventView),
    ],
)
def test_every_field_the_client_names_is_one_the_daemon_answers(
    mine: type[Any], theirs: type[BaseModel]
) -> None:
    assert {f.name for f in dataclasses.fields(mine)} - {"raw"} == set(theirs.model_fields)


def test_a_stream_is_taken_up_behind_the_last_event_that_came() -> None:
    script = in_turn(
        piece(line(1), line(2), b": ping\n\n", line(3)[:-20]),
        Reply(broken=True),
        piece(),
        piece(b'event: attempt\ndata: {"attempt":1}\n\n', line(3), END, line(99)),
    )
    with scripted(script) as server, Client(server.url) as client:
        assert [one.step for one in client.follow_metrics(7)] == [1, 2, 3]
    asked = [request.headers.get("last-event-id") for request in server.requests]
    assert asked == [None, "2", "2", "2"]


def test_a_place_told_before_the_first_event_is_where_a_stream_goes_on() -> None:
    """Whoever asked for new events only must not miss those that came while it was away."""
    event = b'data: {"sequence":43,"type":"job.queued"}\nid: 43\n\n'
    script = in_turn(piece(b"id: 42\n\n"), piece(event, END))
    with scripted(script) as server, Client(server.url) as client:
        assert [one.sequence for one in client.follow_events()] == [43]
    assert server.requests[1].headers["last-event-id"] == "42"


def test_a_daemon_that_comes_back_costs_nothing_and_one_that_does_not_is_given_up() -> None:
    with scripted(always(None)) as server, Client(server.url) as client:
        server.script = lambda _: piece(line(1))
        told = client.follow_metrics(7, patience_seconds=0.3)
        assert next(told).step == 1
        server.stop()
        with pytest.raises(CannotConnect):
            next(told)
        server.start()


def test_a_refusal_ends_a_stream_at_once() -> None:
    body = {"detail": "there is no job '7'", "code": "job_not_found", "status": 404}
    with scripted(always(body, 404)) as server, Client(server.url) as client:
        with pytest.raises(ApiError, match="no job"):
            next(client.follow_metrics(7))
        with pytest.raises(ApiError, match="no job"):
            next(client.metrics_table(7))
        assert len(server.requests) == 2


@pytest.mark.parametrize("reply", [Reply(b"<html>"), piece(b"data: nonsense\n\n"), Reply(b"", 502)])
@pytest.mark.parametrize(
    "call", [lambda c: next(c.follow_metrics(7)), lambda c: next(c.follow_events())]
)
def test_another_program_on_the_port_is_recognised(
    reply: Reply, call: Callable[[Client], object]
) -> None:
    with (
        scripted(lambda _: reply) as server,
        Client(server.url) as client,
        pytest.raises(ClientError, match=r"check the URL|another program"),
    ):
        call(client)


def test_nobody_there_is_a_clear_answer() -> None:
    with (
        Client(f"http://127.0.0.1:{unused_port()}") as client,
        pytest.raises(CannotConnect, match="serve"),
    ):
        next(client.follow_metrics(7, patience_seconds=0))


def test_events_are_fetched_page_by_page() -> None:
    def page(request: Request) -> Reply:
        first, size = int(request.query["after"]), int(request.query["limit"])
        found = [
            {"sequence": n, "type": "x"} for n in range(first + 1, min(first + size, 2100) + 1)
        ]
        return Reply({"events": found, "next": found[-1]["sequence"] if found else first})

    with scripted(page) as server, Client(server.url) as client:
        assert [one.sequence for one in client.events()] == list(range(1, 2101))
        assert len(server.requests) == 3
        assert [one.sequence for one in client.events(after=2000, limit=5)] == [*range(2001, 2006)]


def test_metrics_are_read_with_every_curve() -> None:
    with scripted(always(metric_views.CURVES)) as server, Client(server.url) as client:
        found = client.metrics(7, ["train/loss", "x"], points=50)
    assert found["train/loss"].values == (2.31, 1.92)
    assert found["x"].steps == ()
    assert found.raw == metric_views.CURVES
    assert server.requests[0].query["points"] == "50"
