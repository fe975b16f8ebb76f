"""Which addresses webhooks may have: what must never be called is refused, in words that help."""

# ruff: noqa: SIM905 - words are read more easily without their quotes

from __future__ import annotations

import ipaddress

import pytest

from tests.adapters.webhook_receiver import answer, receiving
from training_cluster.adapters.webhook import WebhookNotifier
from training_cluster.adapters.webhook.addresses import Guard, is_public
from training_cluster.domain.errors import CannotStart, InvalidRequest
from training_cluster.ports import Endpoint, EndpointFormat

# addresses inside, in every way of writing them
INSIDE = """
127.0.0.1 127.1 127.0.0.01 0177.0.0.1 0x7f.0.0.1 0x7f000001 2130706433 017700000001 0 0.0.0.0
0.0.0.0.0 127.0.0.1. 127.255.255.254 1.1 0x 00 999.1.1.1 256.256.256.256 1.2.3 1.2.3.4.5
10.0.0.1 10.255.255.255 172.16.0.1 172.31.255.255 192.168.0.1 192.168.1.254 100.64.0.1
100.100.100.200 169.254.169.254 169.254.170.2 192.0.0.192 192.0.0.8 192.0.2.1 198.18.0.1
198.19.255.255 198.51.100.1 203.0.113.1 168.63.129.16 192.88.99.1 224.0.0.1 239.255.255.250
240.0.0.1 255.255.255.255
[::] [::1] [0:0:0:0:0:0:0:1] [::ffff:127.0.0.1] [::ffff:7f00:1] [::ffff:10.0.0.1]
[::ffff:8.8.8.8] [::127.0.0.1] [::7f00:1] [::ffff:0:127.0.0.1] [64:ff9b::7f00:1]
[64:ff9b::a9fe:a9fe] [64:ff9b:1::1] [100::1] [2001::1] [2001:0:7f00:1::] [2001:2::1]
[2001:10::1] [2001:20::1] [2001:db8::1] [2002:7f00:1::] [2002:a9fe:a9fe::] [3fff::1] [5f00::1]
[fc00::1] [fd00:ec2::254] [fd12:3456::1] [fe80::1] [fe80::1%25eth0] [fe80::1%eth0] [fec0::1]
[ff02::1] [ff0e::1] [4000::1] [2606:4700::1%25lo] [::1 [v1.x] [] [1]
localhost LOCALHOST localhost. localhost.localdomain app.localhost printer.local nas.lan
metadata.google.internal router.home.arpa db wiki intranet.intranet vault.internal
""".split()

ELSEWHERE = """
http://example.com/ HTTP://example.com/ //example.com/ example.com https:example.com https:/x
https:// https:///etc/passwd https://?x https://:443/ https://.example.com/ https://example..com/
https://-x.example.com/ https://x-.example.com/ https://example.com./ https://user@example.com/
https://user:pass@example.com/ https://@example.com/ https://:@example.com/
https://example.com@127.0.0.1/ https://127.0.0.1@example.com/ https://example.com:443@10.0.0.1/
https://example.com:22/ https://example.com:25/ https://example.com:6379/ https://example.com:80/
https://example.com:8080/ https://example.com:0/ https://example.com:99999/
https://example.com:-1/ https://example.com:443x/ https://example.com:0x1bb/
https://example.com%2f@10.0.0.1/ https://example.com%00.evil.com/ https://ex%61mple.com/
https://example.com\\@127.0.0.1/ https:\\\\example.com/ https://example.com/#@127.0.0.1/
https://example.com#@127.0.0.1/ https://127。0。0。1/ https://①②⑦.0.0.1/ https://ⓛocalhost/
https://exämple.com/ https://example.com/ü https://[example.com]/ https://[::1]x/ https://a]/
https://example.com/"x https://example.com/<x> https://example.com/{x} https://example.com/|
ftp://example.com/ file:///etc/passwd gopher://127.0.0.1:6379/_x dict://127.0.0.1:11211/
javascript:alert(1) data:text/plain,x ldap://127.0.0.1/ unix:///run/docker.sock jar:https://x!/
ws://127.0.0.1/ netdoc:///etc/passwd mailto://user:pass@example.com discord://1/2
json://127.0.0.1/ apprise+json://127.0.0.1/ apprise+https://127.0.0.1/ syslog://
slack+http://127.0.0.1/x slack+https://10.0.0.1/services/x slack+ftp://example.com/x
https://hooks.slack.com/workflows/T1/A1/1/x https://hooks.slack.com/triggers/T1/1/x
https://hooks.slack.com/ http://hooks.slack.com/services/T1/B1/x
""".split()

HOSTILE = [
    *(f"https://{host}/hook" for host in INSIDE),
    *(f"https://{host}:8443/" for host in INSIDE[:12]),
    *ELSEWHERE,
    "",
    " https://example.com/",
    "https://example.com/ x",
    "https://exam\nple.com/",
    "https://example.com/\r\nHost: 127.0.0.1",
    "https://example.com/\x00",
    "ht\ttps://127.0.0.1/",
    "https://example.com/\x7f",
    "https://example.com/" + "x" * 2048,
    "https://" + "a" * 64 + ".com/",
    "https://" + "a." * 130 + "com/",
]

# whatever a release of Python says of them
NOT_PUBLIC = """
0.0.0.0 10.1.2.3 100.64.0.1 127.0.0.1 168.63.129.16 169.254.169.254 172.16.0.1 192.0.0.192
192.88.99.1 192.168.0.1 198.18.0.1 224.0.0.1 233.252.0.1 240.0.0.1 255.255.255.255 :: ::1
::ffff:8.8.8.8 ::ffff:10.0.0.1 64:ff9b::808:808 100::1 2001::1 2001:db8::1 2002:808:808::1 3fff::1
4000::1 fd00::1 fe80::1 fe80::1%lo 2606:4700::1111%lo ff02::1
""".split()

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
