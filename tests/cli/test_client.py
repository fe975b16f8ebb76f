"""The Python client: what it sends, what it makes of answers, and of answers that do not come."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from tests.cli.scripted_server import Reply, Request, a_job, always, in_turn, scripted, unused_port
from training_cluster.api import examples, views, webhook_views
from training_cluster.client import (
    ApiError,
    CannotConnect,
    Client,
    ClientError,
    FieldProblem,
    answers,
    webhooks,
)


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (answers.Submitted, views.SubmittedView),
        (answers.Job, views.JobView),
        (answers.Progress, views.ProgressView),
        (answers.JobError, views.ErrorView),
        (answers.Attempt, views.AttemptView),
        (answers.Cancelled, views.CancelledView),
        (answers.Device, views.DeviceView),
        (answers.Devices, views.DevicesView),
        (answers.Hold, views.HoldView),
        (answers.Released, views.ReleasedView),
        (answers.Queue, views.QueueStateView),
        (answers.QueuedJob, views.QueuedView),
        (answers.RunningJob, views.RunningView),
        (answers.About, views.AboutView),
        (answers.Ready, views.ReadyView),
        (answers.JobPage, views.JobPage),
        (webhooks.Webhook, webhook_views.WebhookView),
        (webhooks.UnveiledWebhook, webhook_views.UnveiledView),
        (webhooks.Delivery, webhook_views.DeliveryView),
        (webhooks.DeliveryDetail, webhook_views.DeliveryDetailView),
    ],
)
def test_every_field_the_client_names_is_one_the_daemon_answers(
    mine: type[Any], theirs: type[BaseModel]
) -> None:
    named = {f.name for f in dataclasses.fields(mine)} - {"raw", "replayed"}
    assert named == set(theirs.model_fields) - {"links"} | (named & {"links"})


def test_a_job_is_read_with_everything_in_it() -> None:
    with scripted(always(examples.JOB)) as server, Client(server.url) as client:
        job = client.job(7)
    assert job.raw == examples.JOB
    assert job.status == examples.JOB["status"]
    assert [a.attempt for a in job.attempts] == [a["attempt"] for a in examples.JOB["attempts"]]
    assert job.progress is not None
    assert job.progress.total_steps == examples.JOB["progress"]["total_steps"]


def test_fields_of_a_newer_daemon_are_kept_raw_and_those_of_an_older_one_default() -> None:
    with scripted(always(a_job(colour="green"))) as server, Client(server.url) as client:
        job = client.job("u-7")
    assert (job.attempts, job.wait_reason, job.raw["colour"]) == ((), None, "green")


def test_pages_are_fetched_only_as_far_as_they_are_needed() -> None:
    def page(request: Request) -> Reply:
        first = int(request.query.get("cursor", "0"))
        jobs = [a_job(number=n) for n in range(first, first + int(request.query["limit"]))]
        return Reply({"jobs": jobs, "next_cursor": str(first + len(jobs))})

    with scripted(page) as server, Client(server.url) as client:
        assert [job.number for job in client.jobs(limit=120)] == list(range(120))
        assert len(server.requests) == 2
        assert next(client.jobs(status="failed", user="bob")).number == 0
        assert len(server.requests) == 3
        assert server.requests[-1].query["status"] == "failed"


def test_a_submission_on_a_broken_connection_is_repeated_under_the_same_key() -> None:
    script = in_turn(Reply(broken=True), Reply(examples.STARTED))
    with scripted(script) as server, Client(server.url) as client:
        answer = client.submit({"num_epochs": 1}, num_epochs=2, lora_name="x", strategy="reject")
    first, second = server.requests
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"] != ""
    assert second.body == {"num_epochs": 2, "lora_name": "x"}
    assert second.query == {"strategy": "reject"}
    assert answer.number == examples.STARTED["number"]
    assert not answer.replayed


def test_two_submissions_have_two_keys_unless_the_caller_names_one() -> None:
    with scripted(always(examples.STARTED)) as server, Client(server.url) as client:
        client.submit()
        client.submit()
        client.submit(idempotency_key="mine")
    keys = [request.headers["idempotency-key"] for request in server.requests]
    assert len(set(keys)) == 3
    assert keys[2] == "mine"
    assert server.requests[0].body == {}


def test_a_submission_that_never_gets_through_says_under_which_key_to_repeat_it() -> None:
    with scripted(always(None)) as server, Client(server.url) as client:
        server.script = lambda _: Reply(broken=True)
        with pytest.raises(CannotConnect, match="key mine") as caught:
            client.submit(idempotency_key="mine")
    assert caught.value.was_sent
    assert len(server.requests) == 4


def test_a_cancellation_is_never_sent_twice() -> None:
    with scripted(lambda _: Reply(broken=True)) as server, Client(server.url) as client:
        with pytest.raises(CannotConnect, match="broke off"):
            client.cancel(7)
        assert len(server.requests) == 1


def test_a_refusal_says_what_the_daemon_said() -> None:
    body = {
        "type": "invalid_request",
        "title": "The request is not valid",
        "status": 422,
        "detail": "gpus: too many",
        "code": "invalid_request",
        "hint": "ask for fewer",
        "errors": [{"field": "gpus", "message": "too many", "expected": "le 64"}],
    }
    with (
        scripted(always(body, 422)) as server,
        Client(server.url) as client,
        pytest.raises(ApiError, match="too many") as caught,
    ):
        client.submit(gpus=99)
    error = caught.value
    assert (error.status, error.code, error.hint) == (422, "invalid_request", "ask for fewer")
    assert error.errors == (FieldProblem("gpus", "too many", "le 64"),)


def test_a_rejected_submission_tells_when_to_come_back() -> None:
    script = always(examples.REJECTED, 409, Retry_After="17")
    with (
        scripted(script) as server,
        Client(server.url) as client,
        pytest.raises(ApiError, match="rejected") as caught,
    ):
        client.submit(strategy="reject")
    assert caught.value.code == "no_device_free"
    assert caught.value.retry_after_seconds == 17


def test_a_missing_daemon_is_named_with_the_cure() -> None:
    url = f"http://127.0.0.1:{unused_port()}"
    with Client(url) as client, pytest.raises(CannotConnect, match="training-cluster serve") as e:
        client.submit()
    assert url in e.value.message
    assert not e.value.was_sent


def test_a_daemon_that_does_not_answer_in_time_is_given_up() -> None:
    done = threading.Event()

    def hang(_: Request) -> Reply:
        done.wait(20)
        return Reply({})

    with scripted(hang) as server, Client(server.url, timeout=0.2) as client:
        with pytest.raises(CannotConnect, match=r"did not answer within 0\.2 s"):
            client.queue()
        done.set()


@pytest.mark.parametrize(
    "reply",
    [Reply(b"<html>"), Reply(b"[1]"), Reply({"hello": 1}), Reply(b"oops", 502), Reply(b"", 302)],
)
@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.job(1),
        lambda c: list(c.jobs()),
        lambda c: c.queue(),
        lambda c: c.devices(),
        lambda c: c.ready(),
        lambda c: c.about(),
        lambda c: c.logs(1),
        lambda c: c.release("0"),
        lambda c: c.submit(),
    ],
)
def test_another_program_on_the_port_is_recognised(
    reply: Reply, call: Callable[[Client], object]
) -> None:
    with (
        scripted(lambda _: reply) as server,
        Client(server.url) as client,
        pytest.raises(ClientError, match="another program may have this port"),
    ):
        call(client)


def test_loopback_is_never_asked_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{unused_port()}")
    with scripted(always(a_job())) as server:
        for host in ("127.0.0.1", "localhost"):
            with Client(f"http://{host}:{server.port}") as client:
                assert client.job(7).number == 7


@pytest.mark.parametrize("url", ["ftp://x", "http://", "file:///etc/passwd", ""])
def test_what_is_no_url_is_refused_at_once(url: str) -> None:
    with pytest.raises(ClientError, match="write it like http://"):
        Client(url)


def test_a_url_may_lack_its_scheme() -> None:
    with scripted(always(a_job())) as server, Client(f"127.0.0.1:{server.port}") as client:
        assert client.job(7).number == 7


def test_a_name_can_never_be_another_path() -> None:
    with scripted(always(a_job())) as server, Client(server.url) as client:
        client.job("../queue?x#y")
        assert server.requests[0].path == "/train/..%2Fqueue%3Fx%23y"
        for empty in ("", "..", " "):
            with pytest.raises(ClientError, match="names nothing"):
                client.cancel(empty)
        assert len(server.requests) == 1


def test_not_a_number_is_refused_before_it_is_sent() -> None:
    with scripted(always(None)) as server, Client(server.url) as client:
        with pytest.raises(ClientError, match="NaN"):
            client.submit(learning_rate=float("nan"))
        assert server.requests == []


def test_a_daemon_that_is_not_ready_is_an_answer() -> None:
    body = {"status": "not ready", "checks": [{"name": "store", "ok": False, "detail": "full"}]}
    with scripted(always(body, 503)) as server, Client(server.url) as client:
        ready = client.ready()
    assert not ready.is_ready
    assert ready.checks[0].detail == "full"
