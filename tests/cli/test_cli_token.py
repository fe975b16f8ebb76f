"""Tokens from the command line: made and ended on the daemon's machine, shown from anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Run, failed
from tests.daemon_process import DaemonProcess, running_daemon
from training_cluster.cli.credentials import flags_first
from training_cluster.client import Client


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": "/bin/true",
        "TRAINING_CLUSTER_TUNNEL": "127.0.0.1:0",
    }
    with running_daemon(tmp_path_factory.mktemp("cli") / "state", environment) as started:
        yield started


@pytest.fixture
def daemon(running: DaemonProcess, use: Callable[..., DaemonProcess]) -> DaemonProcess:
    return use(running)


def test_a_token_is_made_shown_once_listed_and_revoked(daemon: DaemonProcess, run: Run) -> None:
    made = run("token", "create", "--user", "alice", "--label", "laptop", "--days", "30")
    assert made.code == 0, made
    text = made.out.strip()
    assert text.startswith("tq_")
    assert "\n" not in text, "nothing else is on standard output, so that it can go into a file"
    listed = run("token", "list").out
    assert "laptop" in listed
    assert text.rpartition("_")[2] not in listed
    gone = run("token", "revoke", text.split("_")[1])
    assert (gone.code, "alice" in gone.out) == (0, True)
    assert "laptop" not in run("token", "list").out
    assert "revoked" in run("token", "list", "--all").out


def test_every_way_to_show_a_token_works(
    daemon: DaemonProcess, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = run("token", "create", "--user", "alice").out.strip()
    monkeypatch.setenv("TRAINING_CLUSTER_URL", daemon.tunnel)
    failed(run("ps"), "a token is needed here", "token create")
    file = tmp_path / "token"
    file.write_text(text + "\n")
    failed(run("ps", "--token-file", file), "others can read it", f"chmod 600 {file}")
    file.chmod(0o600)
    assert run("ps", "--token-file", file).code == 0
    assert run(f"--token-file={file}", "ps").code == 0
    assert run("ps", "--token", text, "--json").code == 0
    monkeypatch.setenv("TRAINING_CLUSTER_TOKEN_FILE", str(file))
    assert run("ps").code == 0
    monkeypatch.setenv("TRAINING_CLUSTER_TOKEN", "tq_wrong")
    failed(run("ps"), "not valid")
    assert run("ps", "--token-file", file).code == 0, "a flag wins over the environment"


def test_nothing_that_is_said_has_the_token_in_it(
    daemon: DaemonProcess, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = f"tq_{'0' * 12}_{'c' * 48}"
    monkeypatch.setenv("TRAINING_CLUSTER_TOKEN", wrong)
    for result in (run("ps"), run("ps", "--json"), run("doctor"), run("config", "show")):
        assert "c" * 48 not in result.out + result.err
    client = Client(daemon.tunnel, token=wrong)
    assert "c" * 48 not in repr(client)
    client.close()


def test_flags_behind_a_command_are_the_programs(daemon: DaemonProcess) -> None:
    assert flags_first(["ps", "--token", "x", "--json"]) == ["--token", "x", "ps", "--json"]
    assert flags_first(["logs", "--token-file=f", "7"]) == ["--token-file=f", "logs", "7"]
    assert flags_first(["submit", "--", "--token", "x"]) == ["submit", "--", "--token", "x"]


def test_the_client_makes_and_ends_tokens(daemon: DaemonProcess) -> None:
    with Client(str(daemon.client.base_url)) as admin:
        made = admin.tokens.create("bob", role="viewer", seconds=60)
        assert made.token not in repr(made)
        with Client(daemon.tunnel, token=made.token) as bob:
            assert list(bob.jobs()) == []
            assert [one.token_id for one in bob.tokens.all()] == [made.token_id]
        assert admin.tokens.revoke(made.token_id).revoked_at
        assert made.token_id in {one.token_id for one in admin.tokens.all(revoked=True)}
