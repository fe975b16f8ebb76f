"""Messages over TLS: to a checked address, but held to the name, with a test's own authority."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence

import pytest
import trustme

from tests.adapters.webhook_receiver import answer, hang, receiving
from training_cluster.adapters.webhook import WebhookNotifier
from training_cluster.ports import Endpoint, EndpointFormat

BODY = b'{"type":"job.completed"}'


def endpoint(url: str) -> Endpoint:
    return Endpoint(EndpointFormat.STANDARD, url)


class Authority:
    """A certificate authority of the test's own."""

    def __init__(self) -> None:
        self._made = trustme.CA()

    def server(self, *names: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._made.issue_cert(*names).configure_cert(context)
        return context

    def client(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self._made.configure_trust(context)
        return context


def tls_notifier(
    authority: Authority, answers: Sequence[str] = ("127.0.0.1",), name: str = "hooks.example.com"
) -> WebhookNotifier:
    return WebhookNotifier(
        (name,), 5.0, lambda _host, _port: answers, ssl_context=authority.client()
    )


async def test_tls_keeps_the_name_for_sni_certificate_and_host():
    authority = Authority()
    async with receiving(answer(200), tls=authority.server("hooks.example.com")) as receiver:
        url = f"https://hooks.example.com:{receiver.port}/x"
        receipt = await tls_notifier(authority).send(endpoint(url), "msg_1", 1.0, BODY)
    assert (receipt.status, receipt.error) == (200, None)
    assert receiver.server_names == ["hooks.example.com"]
    assert receiver.got[0].headers["host"] == f"hooks.example.com:{receiver.port}"


@pytest.mark.parametrize("names", [("other.example.com",), ("127.0.0.1",)])
async def test_a_certificate_for_another_name_is_refused_before_anything_is_said(names):
    authority = Authority()
    async with receiving(answer(200), tls=authority.server(*names)) as receiver:
        url = f"https://hooks.example.com:{receiver.port}/x"
        receipt = await tls_notifier(authority).send(endpoint(url), "msg_1", 1.0, BODY)
    assert receipt.status is None
    assert str(receipt.error).startswith("not delivered: certificate refused: ")
    assert receiver.got == []


async def test_a_certificate_of_an_unknown_authority_is_refused():
    async with receiving(answer(200), tls=Authority().server("hooks.example.com")) as receiver:
        url = f"https://hooks.example.com:{receiver.port}/x"
        receipt = await tls_notifier(Authority()).send(endpoint(url), "msg_1", 1.0, BODY)
    assert str(receipt.error).startswith("not delivered: certificate refused: ")
    assert receiver.got == []


async def test_a_handshake_that_hangs_ends_before_the_deadline_and_leaves_no_socket():
    async with receiving(hang) as receiver:
        url = f"https://127.0.0.1:{receiver.port}/x"
        notifier = WebhookNotifier(("127.0.0.1",), 0.5)
        receipt = await notifier.send(endpoint(url), "msg_1", 1.0, BODY)
        while asyncio.all_tasks() - {asyncio.current_task()}:  # it sees the connection close
            await asyncio.sleep(0.01)
    assert receipt.status is None
    assert receiver.got == []


async def test_the_next_address_is_tried_when_one_does_not_listen():
    authority = Authority()
    server = authority.server("hooks.example.com")
    async with receiving(answer(200), "127.0.0.3", tls=server) as receiver:
        notifier = tls_notifier(authority, ["127.0.0.2", "127.0.0.3"])
        url = f"https://hooks.example.com:{receiver.port}/x"
        receipt = await notifier.send(endpoint(url), "msg_1", 1.0, BODY)
    assert receipt.status == 200
    assert len(receiver.got) == 1
