"""Webhooks from the command line, against a real daemon and a real receiver."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Run, failed
from tests.cli.scripted_server import Reply, ScriptedServer, always, scripted
from tests.daemon_process import DaemonProcess, eventually, running_daemon
from training_cluster.client import Client, ClientError
from training_cluster.settings import load_settings

# before the tests get a home of their own
DATA_DIR = load_settings().data_dir


@pytest.fixture
def daemon(tmp_path: Path, use: Callable[..., DaemonProcess]) -> Iterator[DaemonProcess]:
    """The chosen daemon; it may call receivers on this machine."""
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": "/bin/true",
        "TRAINING_CLUSTER_WEBHOOKS__ALLOW_HOSTS": "127.0.0.1",
    }
    with running_daemon(tmp_path / "state", environment) as started:
        yield use(started)


@pytest.fixture
def receiver() -> Iterator[ScriptedServer]:
    with scripted(lambda _: Reply()) as server:
        yield server


def add(run: Run, receiver: ScriptedServer, *words: str) -> str:
    made = run("webhook", "add", f"{receiver.url}/secret-path", *words, "--json").document
    return str(made["webhook_id"])


def test_a_webhook_is_added_shown_tested_and_removed(
    daemon: DaemonProcess, run: Run, receiver: ScriptedServer
) -> None:
    added = run("webhook", "add", f"{receiver.url}/secret-path", "-e", "job.failed", "--user", "bo")
    assert added.code == 0, added
    assert "whsec_" in added.out
    name = added.out.split()[0]
    listed, shown = run("webhook", "list").out, run("webhook", "show", name).out
    for text in (listed, shown):
        assert name in text
        assert "http://127.0.0.1/***" in text
        assert "job.failed" in text
        assert "bo" in text
        assert "whsec_" not in text
        assert "secret-path" not in text
    tested = run("webhook", "test", name)
    assert (tested.code, tested.out) == (0, "delivery 1: delivered, answered 200\n")
    assert [request.body["type"] for request in receiver.requests] == ["webhook.test"]
    assert "webhook.test" in run("webhook", "deliveries", name).out
    assert run("webhook", "remove", name).code == 0
    failed(run("webhook", "show", name), name, "hint: ")
    assert "there are none" in run("webhook", "list").err


def test_an_address_can_be_kept_out_of_the_list_of_processes(
    daemon: DaemonProcess,
    run: Run,
    receiver: ScriptedServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{receiver.url}/x\n"))
    name = run("webhook", "add", "-", "--json").document["webhook_id"]
    assert run("webhook", "test", name).code == 0


def test_a_test_that_fails_exits_1_and_says_what_was_answered(
    daemon: DaemonProcess, run: Run, receiver: ScriptedServer
) -> None:
    receiver.script = lambda _: Reply(status=500)
    name = add(run, receiver)
    tested = run("webhook", "test", name)
    assert tested.code == 1
    assert "pending, answered 500" in tested.out
    assert "again in " in run("webhook", "deliveries", name).out


def test_deliveries_are_replayed_one_or_all(
    daemon: DaemonProcess, run: Run, receiver: ScriptedServer
) -> None:
    name = add(run, receiver, "--event", "job.completed")
    daemon.submit()
    eventually(lambda: run("webhook", "deliveries", name, "--state", "delivered").out.count("job."))
    number = run("webhook", "deliveries", name, "--json").document["deliveries"][0]["delivery"]
    assert run("webhook", "replay", name, number).out == f"delivery {number} is sent again\n"
    eventually(lambda: len(receiver.requests) == 2)
    assert receiver.requests[0].raw == receiver.requests[1].raw
    assert run("webhook", "replay", name, "--hours", 1).out == "0 deliveries are sent again\n"
    failed(run("webhook", "replay", name, number, "--hours", 1), "--hours", code=2)
    failed(run("webhook", "replay", name, 999), "999")


def test_a_rotated_secret_is_a_new_one_and_enabling_is_harmless(
    daemon: DaemonProcess, run: Run, receiver: ScriptedServer
) -> None:
    first = run("webhook", "add", receiver.url, "--json").document
    second = run("webhook", "rotate", first["webhook_id"], "--json").document
    assert first["secret"] != second["secret"]
    assert run("webhook", "enable", first["webhook_id"], "--json").document["disabled_at"] is None


def test_an_address_that_is_refused_is_one_error_by_the_name_of_its_field(
    quick: DaemonProcess, run: Run
) -> None:
    failed(run("webhook", "add", "http://10.0.0.1/secret"), "url", "https")


def test_a_subscription_is_never_sent_twice() -> None:
    with scripted(lambda _: Reply(broken=True)) as server, Client(server.url) as client:
        with pytest.raises(ClientError, match="broke off"):
            client.webhooks.create("https://example.com/x")
        assert len(server.requests) == 1


def test_a_name_of_a_webhook_can_never_be_another_path() -> None:
    with scripted(always({"webhook_id": "x"})) as server, Client(server.url) as client:
        client.webhooks.get("../train?x")
        assert server.requests[0].path == "/webhooks/..%2Ftrain%3Fx"
        with pytest.raises(ClientError, match="names no webhook"):
            client.webhooks.delete("..")
