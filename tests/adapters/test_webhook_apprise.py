"""Messages by apprise: only where an admin says so, by the real library, in a process that ends."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import psutil
import pytest

from tests.adapters.webhook_receiver import answer, hang, receiving
from training_cluster.adapters.webhook import WebhookNotifier
from training_cluster.domain.errors import InvalidRequest
from training_cluster.ports import Endpoint, EndpointFormat, Receipt

DOCUMENT = {
    "type": "job.failed",
    "timestamp": "2030-01-01T00:00:00Z",
    "data": {
        "job": {
            "name": "support-bot",
            "user": "alice",
            "error": {"code": "out_of_memory", "message": "too big", "hint": None},
            "log_tail": ["the last line"],
        }
    },
}

needs_apprise = pytest.mark.skipif(
    importlib.util.find_spec("apprise") is None, reason="the extra apprise is not installed"
)


def refused(notifier: WebhookNotifier, url: str) -> str:
    with pytest.raises(InvalidRequest) as refusal:
        notifier.check(url)
    (problem,) = refusal.value.problems
    assert problem.field == "url"
    assert problem.expected
    return problem.message


@pytest.mark.parametrize(
    "url", ["mailto://a:b@example.com", "discord://1/2", "apprise+msteams://a/b/c", "json://x/"]
)
def test_nothing_goes_to_apprise_unless_an_admin_opened_it(url):
    assert "not open" in refused(WebhookNotifier(("localhost", "10.0.0.0/8"), 1.0), url)


@needs_apprise
@pytest.mark.parametrize(
    "url",
    [
        "mailto://user:pass@example.com?to=lab@example.com",
        "discord://1234/abcd",
        "DISCORD://1234/abcd",
        "apprise+msteams://a/b/c",
        "tgram://1:a/2",
    ],
)
def test_the_switch_opens_mail_and_well_known_services(url):
    assert WebhookNotifier(("apprise",), 1.0).check(url) is EndpointFormat.APPRISE


@pytest.mark.parametrize(
    "url",
    [
        "json://127.0.0.1/",
        "apprise+json://127.0.0.1/",
        "apprise+http://127.0.0.1/",
        "apprise+https://127.0.0.1/",
        "apprise+apprise+json://127.0.0.1/",
        "form://127.0.0.1/",
        "syslog://",
        "dbus://",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "msteams://a/b/c?template=/etc/passwd",
        "msteams://a/b/c?+TEMPLATE=/etc/passwd",
        "msteams://a/b/c?a=b;%20t%65mplate%20=/etc/passwd",
        "ntfy://topic?attach=file:///etc/passwd",
        "discord://1/2\nx",
        "discord://" + "x" * 3000,
    ],
)
def test_the_switch_opens_nothing_that_acts_here_posts_anywhere_or_reads_files(url):
    refused(WebhookNotifier(("apprise",), 1.0), url)


@needs_apprise
def test_an_admin_may_open_one_scheme_more():
    notifier = WebhookNotifier(("apprise+json",), 1.0)
    assert notifier.check("json://127.0.0.1/") is EndpointFormat.APPRISE
    refused(notifier, "discord://1/2")


def test_without_the_package_the_refusal_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert "not installed" in refused(WebhookNotifier(("apprise",), 1.0), "discord://1/2")


async def deliver(url: str, seconds: float = 30.0) -> Receipt:
    notifier = WebhookNotifier(("apprise+json",), seconds)
    body = notifier.render(EndpointFormat.APPRISE, DOCUMENT)
    return await notifier.send(Endpoint(EndpointFormat.APPRISE, url), "msg_1", 1.0, body)


@needs_apprise
async def test_a_message_arrives_by_the_real_library():
    async with receiving(answer(200)) as receiver:
        receipt = await deliver(f"json://127.0.0.1:{receiver.port}/path")
    assert (receipt.status, receipt.error) == (200, None)
    message = json.loads(receiver.got[0].body)
    assert message["title"] == "❌ Failed: support-bot"
    assert message["type"] == "failure"
    for words in ("alice", "out_of_memory", "too big", "the last line"):
        assert words in message["message"]


@needs_apprise
async def test_a_second_address_hidden_in_the_first_is_not_called():
    async with receiving(answer(200)) as first, receiving(answer(200)) as second:
        for separator in (",", ",%20", ";"):
            hidden = f"{separator}json://127.0.0.1:{second.port}/"
            await deliver(f"json://127.0.0.1:{first.port}/a{hidden}")
    assert second.connections == 0


@needs_apprise
async def test_a_refusal_of_the_service_is_a_failure_without_its_address():
    async with receiving(answer(500, b"no")) as receiver:
        receipt = await deliver(f"json://127.0.0.1:{receiver.port}/SECRETPATH")
    assert receipt.status is None
    assert receipt.error == "not delivered: the service did not take it"


@needs_apprise
async def test_an_address_apprise_does_not_understand_is_a_failure():
    receipt = await deliver("json://")
    assert receipt.error == "not delivered: apprise does not understand this address"


@needs_apprise
async def test_a_service_that_hangs_ends_at_the_deadline_and_leaves_no_process():
    async with receiving(hang) as receiver:
        receipt = await deliver(f"json://127.0.0.1:{receiver.port}/?rto=600", seconds=2.0)
    assert receipt.status is None
    assert "2 s" in str(receipt.error)
    assert psutil.Process().children(recursive=True) == []


@needs_apprise
async def test_the_sending_process_sees_no_secret_of_the_daemon(monkeypatch, tmp_path: Path):
    """A look at the running process, from /proc, while its receiver lets it wait."""
    monkeypatch.setenv("WANDB_API_KEY", "SECRETKEY")
    seen: list[str] = []

    async def look(_writer: object) -> None:
        children = psutil.Process().children()
        seen.extend(f"{child.cmdline()} {child.environ()}" for child in children)

    async with receiving(look) as receiver:
        await deliver(f"json://127.0.0.1:{receiver.port}/SECRETPATH")
    assert seen
    assert "apprise_worker" in seen[0]
    assert "SECRET" not in "".join(seen)


async def test_a_message_is_refused_when_the_admin_has_closed_apprise_again():
    notifier = WebhookNotifier((), 1.0)
    target = Endpoint(EndpointFormat.APPRISE, "json://127.0.0.1/SECRETPATH")
    receipt = await notifier.send(target, "msg_1", 1.0, b"{}")
    assert str(receipt.error).startswith("refused: ")
    assert "SECRET" not in str(receipt.error)
