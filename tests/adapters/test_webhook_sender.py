"""What becomes of a message at receivers of every kind, over real connections on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import subprocess
import sys
import threading
import time
from email.utils import formatdate

import pytest
import standardwebhooks

from tests.adapters.webhook_receiver import (
    Behaviour,
    answer,
    close,
    drip,
    flood,
    hang,
    receiving,
)
from training_cluster.adapters.webhook import WebhookNotifier, new_secret
from training_cluster.adapters.webhook.threads import Busy, Threads
from training_cluster.ports import Endpoint, EndpointFormat, Receipt

LOOPBACK = ("127.0.0.0/8",)
SECRET_PATH = "/T0SECRETTEAM/B0SECRETHOOK"
BODY = b'{"type":"job.completed","data":{"name":"body-with-a-name"}}'


def endpoint(
    url: str, *secrets: str, format_: EndpointFormat = EndpointFormat.STANDARD
) -> Endpoint:
    return Endpoint(format_, url, secrets)


async def deliver(url: str, *secrets: str, seconds: float = 5.0) -> Receipt:
    notifier = WebhookNotifier(LOOPBACK, seconds)
    return await notifier.send(endpoint(url, *secrets), "msg_1", time.time(), BODY)


async def deliver_to(behave: Behaviour, seconds: float = 5.0) -> Receipt:
    async with receiving(behave) as receiver:
        return await deliver(receiver.url(SECRET_PATH), seconds=seconds)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_2xx_is_a_success(status):
    receipt = await deliver_to(answer(status))
    assert (receipt.status, receipt.error, receipt.retry_after_seconds) == (status, None, None)
    assert receipt.duration_seconds > 0


@pytest.mark.parametrize("status", [300, 304, 400, 401, 404, 410, 429, 500, 503])
async def test_any_other_answer_is_a_failure_that_names_the_status(status):
    receipt = await deliver_to(answer(status, b"no"))
    assert receipt.status == status
    assert str(status) in str(receipt.error)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_a_failure_and_is_not_followed(status):
    async with (
        receiving(answer(200)) as other,
        receiving(answer(status, location=other.url())) as first,
    ):
        receipt = await deliver(first.url())
    assert receipt.status == status
    assert "redirects are not followed" in str(receipt.error)
    assert (len(first.got), other.connections) == (1, 0)


@pytest.mark.parametrize("status", [429, 503, 500])
async def test_retry_after_in_seconds_is_reported(status):
    assert (await deliver_to(answer(status, retry_after="120"))).retry_after_seconds == 120


async def test_retry_after_as_a_date_is_reported_in_seconds():
    receipt = await deliver_to(answer(429, retry_after=formatdate(time.time() + 600, usegmt=True)))
    assert receipt.retry_after_seconds is not None
    assert 500 < receipt.retry_after_seconds <= 600


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("soon", None),
        ("-5", None),
        ("1e9", None),
        ("9" * 5000, None),
        ("nan", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
    ],
)
async def test_a_nonsensical_retry_after_does_no_harm(value, seconds):
    receipt = await deliver_to(answer(429, retry_after=value))
    assert (receipt.status, receipt.retry_after_seconds) == (429, seconds)


@pytest.mark.parametrize("behave", [hang, drip(None)])
async def test_a_receiver_that_does_not_answer_ends_at_the_deadline(behave):
    receipt = await deliver_to(behave, seconds=0.5)
    assert receipt.status is None
    assert "no answer within 0.5 s" in str(receipt.error)


async def test_a_body_that_drips_ends_at_the_deadline_and_its_status_counts():
    assert (await deliver_to(drip(200), seconds=0.5)).status == 200
    refused = await deliver_to(drip(500), seconds=0.5)
    assert (refused.status, refused.error) == (500, "answered 500")


async def test_a_receiver_that_hangs_up_is_a_failure():
    receipt = await deliver_to(close)
    assert receipt.status is None
    assert str(receipt.error).startswith("not delivered: ")


async def test_a_receiver_that_is_not_there_is_a_failure_in_plain_words():
    async with receiving(close) as receiver:
        url = receiver.url(SECRET_PATH)
    receipt = await deliver(url)
    assert (receipt.status, receipt.error) == (None, "not delivered: Connection refused")


async def test_of_an_endless_body_only_64_kib_are_kept_and_the_connection_is_closed():
    sent: list[int] = []
    async with receiving(flood(sent)) as receiver:
        receipt = await deliver(receiver.url())
        while asyncio.all_tasks() - {asyncio.current_task()}:  # the receiver notices the end
            await asyncio.sleep(0.01)
    assert (receipt.status, receipt.error) == (200, None)
    assert sum(sent) < 32 * 1024 * 1024  # what the kernel buffers


async def test_a_dead_receiver_never_delays_another():
    notifier = WebhookNotifier(LOOPBACK, 30.0)
    async with receiving(hang) as dead, receiving(answer(200)) as alive:
        waiting = [
            asyncio.create_task(notifier.send(endpoint(dead.url()), f"m{n}", 1.0, BODY))
            for n in range(20)
        ]
        while dead.connections < len(waiting):
            await asyncio.sleep(0.01)
        receipt = await notifier.send(endpoint(alive.url()), "msg_1", 1.0, BODY)
        assert receipt.status == 200
        assert not any(task.done() for task in waiting)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    await notifier.close()
    await notifier.close()


async def test_the_message_arrives_byte_for_byte_at_the_very_path():
    path = "/a/.b//c;d=1?x=%2F&y=a+b&z=~'()*!$,;@:&e=&f"
    async with receiving(answer(200)) as receiver:
        await deliver(receiver.url(path))
    (got,) = receiver.got
    assert got.line == f"POST {path} HTTP/1.1"
    assert got.body == BODY
    assert got.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert got.headers["content-type"] == "application/json"
    assert got.headers["user-agent"].startswith("training-cluster/")
    assert not {"cookie", "authorization", "webhook-signature"} & got.headers.keys()


async def test_an_ipv6_address_is_called_with_its_host_header():
    async with receiving(answer(200), "::1") as receiver:
        notifier = WebhookNotifier(("::1",), 5.0)
        url = f"http://[::1]:{receiver.port}/x"
        receipt = await notifier.send(endpoint(url), "msg_1", 1.0, BODY)
    assert receipt.status == 200
    assert receiver.got[0].headers["host"] == f"[::1]:{receiver.port}"


@pytest.mark.parametrize("count", [1, 2, 3])
async def test_signatures_verify_with_every_one_of_the_secrets(count):
    secrets = [new_secret() for _ in range(count)]
    async with receiving(answer(200)) as receiver:
        await deliver(receiver.url(), *secrets)
    (got,) = receiver.got
    assert got.headers["webhook-id"] == "msg_1"
    assert len(got.headers["webhook-signature"].split(" ")) == count
    for secret in secrets:
        verified = standardwebhooks.Webhook(secret).verify(got.body, got.headers)
        assert verified == json.loads(BODY)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(new_secret()).verify(got.body, got.headers)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(secrets[0]).verify(got.body + b" ", got.headers)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_%%%", "whsec_ünïcode"])
async def test_a_damaged_secret_is_a_failure_and_nothing_unsigned_is_sent(secret):
    async with receiving(answer(200)) as receiver:
        receipt = await deliver(receiver.url(), secret)
    assert receipt == Receipt(None, "not delivered: a signing secret of this webhook is damaged")
    assert receiver.connections == 0


def test_secrets_are_new_each_time_and_of_the_specified_form():
    secrets = {new_secret() for _ in range(50)}
    assert len(secrets) == 50
    assert all(secret.startswith("whsec_") and len(secret) == 50 for secret in secrets)


async def test_neither_logs_nor_errors_nor_repr_show_the_path_or_the_body(caplog):
    caplog.set_level(logging.DEBUG)
    for behave in (answer(200), answer(302, location="/x"), answer(500, b"at " * 9), close):
        async with receiving(behave) as receiver:
            target = endpoint(receiver.url(SECRET_PATH + "?token=SECRETTOKEN"), new_secret())
            receipt = await WebhookNotifier(LOOPBACK, 5.0).send(target, "msg_1", 1.0, BODY)
            assert "SECRET" not in repr((receipt, target))
            assert target.secrets[0] not in repr(target)
    assert "SECRET" not in caplog.text
    assert "body-with-a-name" not in caplog.text


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch):
    async with receiving(answer(200)) as proxy, receiving(answer(200)) as receiver:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url("/"))
        monkeypatch.delenv("no_proxy", raising=False)
        await deliver(receiver.url())
    assert (proxy.connections, receiver.connections) == (0, 1)


async def test_a_name_that_is_not_found_is_a_failure():
    def resolve(_host: str, _port: int) -> list[str]:
        raise OSError(-2, "Name or service not known")

    notifier = WebhookNotifier((), 5.0, resolve)
    receipt = await notifier.send(endpoint("https://no.example.com/x"), "msg_1", 1.0, BODY)
    assert receipt.status is None
    assert receipt.error == "not delivered: Name or service not known"


async def test_a_name_server_that_hangs_holds_up_neither_others_nor_the_deadline():
    forever = threading.Event()

    def resolve(host: str, _port: int) -> list[str]:
        if host == "slow.example.com":
            forever.wait(60)
        return ["127.0.0.1"]

    notifier = WebhookNotifier(("fast.example.com", "slow.example.com"), 0.5, resolve)
    try:
        async with receiving(answer(200)) as receiver:
            slow, fast = await asyncio.gather(
                *(
                    notifier.send(
                        endpoint(f"http://{name}.example.com:{receiver.port}/"), "m", 1.0, b""
                    )
                    for name in ("slow", "fast")
                )
            )
    finally:
        forever.set()
    assert "no answer within" in str(slow.error)
    assert fast.status == 200


async def test_lookups_that_hang_do_not_pile_up():
    release = threading.Event()
    threads = Threads("test", 2)
    waiting = [asyncio.create_task(threads.run(release.wait)) for _ in range(2)]
    await asyncio.sleep(0)
    try:
        with pytest.raises(Busy):
            await threads.run(lambda: None)
    finally:
        release.set()
    await asyncio.gather(*waiting)
    while True:  # a thread frees its place just after it has answered
        with contextlib.suppress(Busy):
            assert await threads.run(lambda: 7) == 7
            break


SLACK = "http://hooks.slack.com:{port}/services/T0SECRETTEAM/B0/x"


@pytest.mark.parametrize(
    ("behave", "error"),
    [
        (answer(200, b"ok"), None),
        (answer(200, b"<html>"), "Slack did not answer ok"),
        (answer(400, b"invalid_blocks"), "answered 400 (invalid_blocks)"),
        (answer(404, b"no_service\n"), "answered 404 (no_service)"),
        (answer(500, b"see /services/T0SECRETTEAM"), "answered 500"),
    ],
)
async def test_slack_is_taken_at_its_word(behave, error):
    notifier = WebhookNotifier(("hooks.slack.com",), 5.0, lambda _host, _port: ["127.0.0.1"])
    async with receiving(behave) as receiver:
        url = SLACK.format(port=receiver.port)
        target = endpoint(url, new_secret(), format_=EndpointFormat.SLACK)
        receipt = await notifier.send(target, "msg_1", 1.0, b"{}")
    assert notifier.check(url) is EndpointFormat.SLACK
    assert receipt.error == error
    assert "webhook-signature" not in receiver.got[0].headers


async def test_a_receiver_like_slack_need_not_say_ok():
    async with receiving(answer(200, b'{"success":true}')) as receiver:
        url = "slack+" + receiver.url("/hooks/x")
        target = endpoint(url, format_=EndpointFormat.SLACK)
        receipt = await WebhookNotifier(LOOPBACK, 5.0).send(target, "msg_1", 1.0, b"{}")
    assert (receipt.status, receipt.error) == (200, None)
    assert receiver.got[0].line == "POST /hooks/x HTTP/1.1"


def test_importing_the_adapter_brings_in_no_library():
    code = "import sys, training_cluster.adapters.webhook; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"httpx2", "httpcore2", "standardwebhooks", "slack_sdk", "apprise"}
