"""Which addresses webhooks may have: what must never be called is refused, in words that help."""

# ruff: noqa: SIM905 - words are read more easily without their quotes

from __future__ import annotations

import ipaddress

import pytest

from tests.adapters.hostile_addresses import HOSTILE, NOT_PUBLIC
from tests.adapters.webhook_receiver import answer, receiving
from training_cluster.adapters.webhook import WebhookNotifier
from training_cluster.adapters.webhook.addresses import Guard, is_public
from training_cluster.domain.errors import CannotStart, InvalidRequest
from training_cluster.ports import Endpoint, EndpointFormat

PUBLIC = """
1.1.1.1 8.8.8.8 93.184.216.34 3.64.1.1 172.15.0.1 172.32.0.1 100.63.0.1 100.128.0.1 223.255.255.1
2606:4700:4700::1111 2a00:1450:4001:80b::200e 2400:cb00::1
""".split()


def test_there_are_more_than_a_hundred_hostile_addresses():
    assert len(set(HOSTILE)) > 190


@pytest.mark.parametrize("url", HOSTILE)
def test_a_hostile_address_is_refused_with_a_problem_on_the_field_url(url):
    with pytest.raises(InvalidRequest) as refusal:
        WebhookNotifier((), 1.0).check(url)
    (problem,) = refusal.value.problems
    assert problem.field == "url"
    assert problem.message
    assert problem.expected


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_what_is_not_one_host_of_the_internet_is_not_public(address):
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_hosts_of_the_internet_are_public(address):
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    ("url", "format_"),
    [
        ("https://example.com/hook", EndpointFormat.STANDARD),
        ("https://example.com:8443/hook?a=b&c=%2F", EndpointFormat.STANDARD),
        ("HTTPS://Example.COM", EndpointFormat.STANDARD),
        ("https://xn--exmple-cua.com/", EndpointFormat.STANDARD),
        ("https://8.8.8.8/hook", EndpointFormat.STANDARD),
        ("https://[2606:4700:4700::1111]/hook", EndpointFormat.STANDARD),
        ("https://prod-1.x.logic.azure.com:443/w/a?sp=%2Ftriggers&sv=1.0", EndpointFormat.STANDARD),
        ("https://hooks.slack.com/services/T0/B0/x", EndpointFormat.SLACK),
        ("https://hooks.slack-gov.com/services/T0/B0/x", EndpointFormat.SLACK),
        ("https://hooks.slack.com.example.com/services/T0/B0/x", EndpointFormat.STANDARD),
        ("slack+https://chat.example.com/hooks/x", EndpointFormat.SLACK),
    ],
)
def test_an_ordinary_address_is_taken_and_its_format_known(url, format_):
    assert WebhookNotifier((), 1.0).check(url) is format_


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:9000/x",
        "http://hooks.lab.example/x",
        "https://hooks.lab.example:9443/x",
        "http://10.20.30.40:8080/x",
        "http://127.0.0.1/x",
        "http://[fd00::7]:80/x",
    ],
)
def test_hosts_an_admin_opened_may_be_plain_http_on_any_port(url):
    allowed = ("localhost", "Hooks.Lab.example", "10.20.0.0/16", "127.0.0.1", "fd00::/8")
    assert WebhookNotifier(allowed, 1.0).check(url) is EndpointFormat.STANDARD


@pytest.mark.parametrize(
    "url",
    [
        "http://user:pass@localhost/x",
        "http://localhost:0/x",
        "http://local\\host/x",
        "http://evil.localhost/x",
        "http://127.0.0.2/x",
        "http://0x7f000001/x",
        "http://[::ffff:127.0.0.1]/x",
        "ftp://localhost/x",
    ],
)
def test_an_opened_host_opens_no_other_and_no_odd_address(url):
    with pytest.raises(InvalidRequest):
        WebhookNotifier(("localhost", "127.0.0.1"), 1.0).check(url)


@pytest.mark.parametrize("entry", ["http://x/", "10.0.0.0/33", "a b", "*.lab", "1.2.3", ""])
def test_an_entry_that_opens_nothing_stops_the_daemon_with_a_hint(entry):
    with pytest.raises(CannotStart) as refusal:
        WebhookNotifier((entry,), 1.0)
    assert refusal.value.hint


def test_a_refusal_does_not_repeat_the_path():
    with pytest.raises(InvalidRequest) as refusal:
        WebhookNotifier((), 1.0).check("https://127.0.0.1/very-secret-path")
    assert "very-secret" not in f"{refusal.value}{refusal.value.problems}"


def test_parts_hide_the_path():
    assert "secret" not in repr(Guard(()).target("https://example.com/secret?token=secret"))


@pytest.mark.parametrize(
    "answers",
    [["10.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["::1", "2606:4700::1"], ["fe80::1%lo"], ["x"], []],
)
async def test_nothing_is_sent_unless_every_address_is_public(answers):
    async with receiving(answer(200), "127.0.77.1", 8443) as receiver:
        notifier = WebhookNotifier((), 5.0, lambda _host, _port: answers)
        endpoint = Endpoint(EndpointFormat.STANDARD, "https://hooks.example.com:8443/secret-path")
        receipt = await notifier.send(endpoint, "msg_1", 1.0, b"{}")
    assert receipt.status is None
    assert receipt.error is not None
    assert receipt.error.startswith("refused: " if answers else "not delivered: ")
    assert "secret-path" not in receipt.error
    assert receiver.connections == 0


async def test_a_name_that_changes_its_address_reaches_only_the_address_that_was_checked():
    """127.0.77.1 stands for a public address, 127.0.77.2 for one inside."""
    lookups = [["127.0.77.1"], ["127.0.77.2"], ["127.0.77.1", "127.0.77.2"]]
    asked: list[tuple[str, int]] = []

    def resolve(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return lookups[len(asked) - 1]

    endpoint = Endpoint(EndpointFormat.STANDARD, "https://rebind.example.com:8443/hook")
    async with (
        receiving(answer(200), "127.0.77.1", 8443) as checked,
        receiving(answer(200), "127.0.77.2", 8443) as inside,
    ):
        notifier = WebhookNotifier(("127.0.77.1",), 5.0, resolve)
        first, *others = [await notifier.send(endpoint, "msg_1", 1.0, b"{}") for _ in lookups]
    assert asked == [("rebind.example.com", 8443)] * len(lookups)
    assert checked.connections == 1  # it speaks no TLS, so the message itself stays here
    assert inside.connections == 0
    assert first.error is not None
    assert first.error.startswith("not delivered: ")
    assert [str(receipt.error)[:8] for receipt in others] == ["refused:", "refused:"]


async def test_an_address_that_was_once_accepted_is_held_against_the_rules_at_every_try():
    endpoint = Endpoint(EndpointFormat.STANDARD, "http://127.0.0.1/was-open-yesterday")
    receipt = await WebhookNotifier((), 1.0).send(endpoint, "msg_1", 1.0, b"{}")
    assert receipt.status is None
    assert "refused" in str(receipt.error)
    assert "yesterday" not in str(receipt.error)
