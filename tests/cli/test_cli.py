"""How commands end, what they say when they cannot, how fast they start."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest
from typer.testing import CliRunner

from tests.cli.conftest import PROGRAM, Run, Started, failed
from tests.cli.scripted_server import Reply, scripted
from tests.daemon_process import DaemonProcess
from training_cluster.cli.main import build
from training_cluster.cli.options import connect
from training_cluster.settings import load_settings

# before the tests get a home of their own
DATA_DIR = load_settings().data_dir

Start = Callable[..., Started]


@pytest.mark.parametrize("terminal", [False, True])
def test_ctrl_c_while_waiting_exits_130_and_leaves_the_job_alone(
    held: DaemonProcess, start: Start, terminal: bool
) -> None:
    waiting = start("submit", "--wait", terminal=terminal)
    waiting.until("job 1 running" if not terminal else "running")
    waiting.interrupt()
    assert waiting.end() == 130
    assert "job 1 goes on" in waiting.text
    assert "Traceback" not in waiting.text
    assert held.job(1)["status"] == "running"


@pytest.mark.parametrize(
    ("command", "sign"),
    [
        (("logs", "-f", "1"), "trained for"),
        (("status", "--watch", "1"), "running"),
        (("ps", "--watch"), "running"),
        (("queue", "-w"), "running"),
    ],
)
def test_ctrl_c_while_looking_exits_130(
    held: DaemonProcess, start: Start, command: tuple[str, ...], sign: str
) -> None:
    held.submit()
    held.wait_for(1, "running")
    looking = start(*command)
    looking.until(sign)
    looking.interrupt()
    assert looking.end() == 130
    assert "Traceback" not in looking.text


def test_a_terminal_gets_colours_unless_it_wants_none(held: DaemonProcess, start: Start) -> None:
    held.submit()
    held.wait_for(1, "running")
    coloured = start("queue", terminal=True)
    assert coloured.end() == 0
    assert "\x1b[36mrunning" in coloured.text
    plain = start("queue", terminal=True, NO_COLOR="1")
    assert plain.end() == 0
    assert "\x1b[36m" not in plain.text
    assert "running" in plain.text


def test_a_reader_that_goes_away_is_no_failure_to_shout_about(quick: DaemonProcess) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", '"$0" -m training_cluster doctor --quick | :', PROGRAM[0]],
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["bogus"],
        ["ps", "--limit", "0"],
        ["ps", "--status", "sleeping"],
        ["submit", "--set", "novalue"],
        ["submit", "--gpus", "many"],
        ["submit", "-f", "/nonexistent.yaml"],
        ["cancel"],
        ["ps", "--watch", "--json"],
        ["logs", "1", "-f", "--json"],
        ["gpus", "hold", "0"],
        ["trainer"],
        ["serve", "--port", "70000"],
    ],
)
def test_wrong_usage_exits_2_and_points_to_the_help(run: Run, words: list[str]) -> None:
    failed(run(*words), "hint: see `training-cluster", "--help`", code=2)


def test_no_daemon_is_one_error_with_the_cure(run: Run) -> None:
    result = run("ps")
    failed(result, "http://127.0.0.1:1", "hint: ", "training-cluster serve")
    assert run("ps", "--json").document["code"] == "cannot_connect"


@pytest.mark.parametrize(
    ("host", "url"),
    [("0.0.0.0", "http://127.0.0.1:"), ("::", "http://[::1]:"), ("box.lab", "http://box.lab:")],
)
def test_the_daemon_meant_is_the_one_the_settings_describe(
    monkeypatch: pytest.MonkeyPatch, host: str, url: str
) -> None:
    monkeypatch.setenv("TRAINING_CLUSTER_HOST", host)
    monkeypatch.setenv("TRAINING_CLUSTER_PORT", "7")
    assert connect(None).url == f"{url}7"
    assert connect("http://other:1").url == "http://other:1"


def test_a_daemon_that_answers_nonsense_is_one_error(run: Run) -> None:
    with scripted(lambda _: Reply(b"<html>")) as server:
        failed(run("queue", "--url", server.url), "hint: another program")


def test_the_program_without_a_command_shows_its_help() -> None:
    result = CliRunner().invoke(build(), [])
    assert result.exit_code == 2
    for name in (
        "serve",
        "submit",
        "ps",
        "status",
        "logs",
        "cancel",
        "pause",
        "resume",
        "retry",
        "queue",
        "gpus",
        "doctor",
    ):
        assert name in result.output


def test_every_command_has_help_and_the_version_is_told() -> None:
    for words in (["submit"], ["gpus", "hold"], ["trainer", "install"], ["config", "show"], []):
        assert CliRunner().invoke(build(), [*words, "--help"]).exit_code == 0
    assert CliRunner().invoke(build(), ["--version"]).output.startswith("training-cluster 0.")


def test_a_command_does_not_load_the_daemon(quick: DaemonProcess) -> None:
    heavy = ("fastapi", "uvicorn", "sqlite3", "starlette", "torch", "pandas", "numpy")
    code = (
        "import sys; from training_cluster.cli.main import main; main(['ps']);"
        f"print([name for name in {heavy} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([PROGRAM[0], "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr == "[]\n", done.stderr
