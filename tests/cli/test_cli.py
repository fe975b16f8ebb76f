"""The command line against a real daemon: what it says, what it returns, how it ends."""

from __future__ import annotations

import io
import json
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.cli.conftest import PROGRAM, Result, Run, Started
from tests.cli.scripted_server import Reply, scripted
from tests.daemon_process import DaemonProcess
from training_cluster.cli.job_file import FIELDS, assemble
from training_cluster.cli.main import app
from training_cluster.cli.terminal import clean
from training_cluster.settings import load_settings
from training_cluster.trainer_environment import environment_path, is_complete

# before the tests get a home of their own
DATA_DIR = load_settings().data_dir

Start = Callable[..., Started]


def failed(result: Result, *said: str, code: int = 1) -> None:
    """A failure in lines for people, without a traceback."""
    assert result.code == code, result
    assert result.err.startswith("error: "), result.err
    assert "Traceback" not in result.err
    for text in said:
        assert text in result.err


# submitting


def test_a_waited_for_job_that_completes_exits_0_with_a_line_for_every_change(
    stepping: DaemonProcess, run: Run
) -> None:
    result = run("submit", "--wait", "--lora-name", "[red]x", "--epochs", 1, "--set", "seed=7")
    assert result.code == 0, result
    lines = result.out.splitlines()
    assert lines[0].startswith("job 1 started")
    assert any("/5 " in line and "loss" in line and "left" in line for line in lines)
    assert lines.count("job 1 completed") == 1
    assert len(lines) == len(set(lines))
    job = stepping.job(1)
    assert job["config"]["overrides"] == {"seed": 7}
    assert job["config"]["num_epochs"] == 1
    assert job["config"]["lora_name"] == "[red]x"


def test_a_waited_for_job_that_fails_exits_1_and_says_why(failing: DaemonProcess, run: Run) -> None:
    result = run("submit", "--wait")
    failed(result, "job 1 failed", failing.job(1)["error"]["code"], "hint: ")
    shown = run("status", 1)
    assert shown.code == 0
    assert failing.job(1)["error"]["code"] in shown.out
    assert run("logs", 1).out == "no luck\n"


def test_a_waited_for_job_prints_its_final_body_as_the_one_document(
    failing: DaemonProcess, run: Run
) -> None:
    result = run("submit", "--wait", "--json")
    assert result.code == 1
    assert result.document == failing.job(1)


def test_json_is_the_body_of_the_api(quick: DaemonProcess, run: Run) -> None:
    answer = run("submit", "--json").document
    assert answer["status"] == "started"
    quick.wait_for(answer["job_id"])
    for command, path in (
        (["status", answer["number"]], f"/train/{answer['job_id']}"),
        (["queue"], "/queue"),
        (["gpus"], "/devices"),
    ):
        document = run(*command, "--json").document
        assert document.keys() == quick.client.get(path).json().keys()


def test_flags_win_over_set_and_set_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("num_epochs: 1\nbatch_size: 2\nlora_version: 2024-01-01\ntemplate: a\n")
    settings = ["batch_size=3", "template=b", "overrides.optim=sgd", "eval_strategy=no"]
    job = assemble(str(file), settings, {"template": "c", "gpus": None, "depends_on": []})
    assert (job["num_epochs"], job["batch_size"], job["template"]) == (1, 3, "c")
    assert job["overrides"] == {"optim": "sgd", "eval_strategy": "no"}
    assert "gpus" not in job


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), ("10", 10), ("true", True), ("no", "no"), ("2.0e-5", 2e-5), ("[1]", [1])],
)
def test_set_reads_numbers_as_numbers_and_words_as_words(text: str, value: Any) -> None:
    assert assemble(None, [f"x={text}"], {})["overrides"] == {"x": value}


def test_a_job_is_read_from_standard_input(
    quick: DaemonProcess, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for text in ('{"save_name": "piped", "learning_rate": 2e-4}', "save_name: piped"):
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        number = run("submit", "-f", "-", "--json").document["number"]
        assert quick.job(number)["config"]["save_name"] == "piped"


@pytest.mark.parametrize(
    ("text", "said"),
    [("- a\n", "fields of one job"), ("a: [", "line 1"), ("a: b: c", "line 1"), ("", "one job")],
)
def test_a_file_that_is_no_job_is_a_usage_error(
    run: Run, tmp_path: Path, text: str, said: str
) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(text)
    failed(run("submit", "-f", file), said, str(file), code=2)


def test_what_the_daemon_refuses_is_said_field_by_field(quick: DaemonProcess, run: Run) -> None:
    result = run("submit", "--epochs", -1, "--set", "nonsense=1", "--json")
    failed(result, "num_epochs", "overrides.nonsense", "hint: ")
    assert result.document["code"] == "invalid_request"


def test_every_field_of_the_api_has_a_flag() -> None:
    from training_cluster.api.schemas import TrainRequest
    from training_cluster.cli.submit import submit

    assert set(TrainRequest.model_fields) - {"overrides"} == FIELDS
    assert set(submit.__annotations__) >= FIELDS - {"kind"}


def test_the_same_idempotency_key_submits_once(quick: DaemonProcess, run: Run) -> None:
    first = run("submit", "--idempotency-key", "k", "--json").document
    again = run("submit", "--idempotency-key", "k")
    assert first["job_id"] in again.out
    assert "already submitted" in again.out


def test_a_busy_machine_queues_or_rejects_as_it_was_told(held: DaemonProcess, run: Run) -> None:
    run("submit")
    queued = run("submit")
    assert queued.out.startswith("job 2 queued")
    assert "position 1: " in queued.out
    failed(run("submit", "--strategy", "reject"), "rejected", "hint: ")
    assert "leased by job 1" in run("queue").out


def test_waiting_gives_up_after_the_timeout_and_the_job_goes_on(
    held: DaemonProcess, run: Run
) -> None:
    failed(run("submit", "--wait", "--timeout", 0.2), "has not ended", "hint: it goes on")
    assert held.job(1)["status"] in ("preparing", "running")


# looking


def test_ps_shows_unfinished_jobs_and_with_a_all(held: DaemonProcess, run: Run) -> None:
    run("submit")
    run("submit")
    run("submit")
    run("cancel", 3)
    assert [j["number"] for j in run("ps", "--json").document["jobs"]] == [2, 1]
    assert [j["number"] for j in run("ps", "-a", "--json").document["jobs"]] == [3, 2, 1]
    assert [j["number"] for j in run("ps", "--status", "queued", "--json").document["jobs"]] == [2]
    assert run("ps", "--user", "nobody-of-that-name", "--json").document == {"jobs": []}
    limited = run("ps", "--limit", 1)
    assert limited.out.count("Qwen/Qwen2.5-1.5B-Instruct") == 1
    assert "--limit" in limited.err


def test_status_says_why_a_job_waits(held: DaemonProcess, run: Run) -> None:
    run("submit")
    run("submit")
    out = run("status", 2).out
    assert "leased by job 1" in out
    assert "queued" in out


def test_output_into_a_pipe_has_no_escape_codes_and_no_trailing_blanks(
    held: DaemonProcess, run: Run
) -> None:
    run("submit", "--save-name", "a name [bold]with[/bold] brackets")
    for command in (["ps"], ["status", 1], ["queue"], ["gpus"], ["cancel", 99], ["doctor"]):
        result = run(*command)
        assert "\x1b" not in result.out + result.err
        assert all(line == line.rstrip() for line in result.out.splitlines())
    assert "[bold]with[/bold]" in run("ps").out


def test_a_name_cannot_steer_the_terminal() -> None:
    assert clean("a\x1b[2J\x1b]0;title\x07b\x07\x9b\u202ec\r\nd") == "abc\nd"


def test_logs_follow_a_job_to_its_end(stepping: DaemonProcess, run: Run) -> None:
    run("submit")
    assert run("logs", "-f", 1).out == "".join(f"step {n}\n" for n in range(1, 6))
    assert run("logs", "--tail", 2, 1).out == "step 4\nstep 5\n"
    assert run("logs", 1, "--json").document["log"].endswith("step 5\n")
    failed(run("logs", 1, "--attempt", 9), "no attempt 9")


def test_the_log_of_a_job_that_has_not_run_is_said_to_be_empty(
    held: DaemonProcess, run: Run
) -> None:
    run("submit")
    run("submit")
    result = run("logs", 2)
    assert (result.code, result.out) == (0, "")
    assert "queued" in result.err


def test_watching_a_job_ends_with_it(stepping: DaemonProcess, run: Run) -> None:
    run("submit")
    result = run("status", "--watch", 1)
    assert result.code == 0
    assert "completed" in result.out


# acting


def test_cancel_takes_several_jobs_and_fails_when_one_cannot_be(
    held: DaemonProcess, run: Run
) -> None:
    run("submit")
    run("submit")
    result = run("cancel", 2, 99, 1)
    failed(result, "99")
    assert result.out == "job 2 is cancelled\njob 1 is stopping\n"
    held.wait_for(1, "cancelled")
    again = run("cancel", 1, "--json")
    assert again.code == 1
    assert again.document[0]["error"]["code"] == "job_already_finished"


def test_a_device_is_held_and_released(held: DaemonProcess, run: Run) -> None:
    assert "is held until 2" in run("gpus", "hold", 0, "-r", "lunch", "--minutes", 5).out
    assert "lunch" in run("gpus").out
    assert run("submit").out.startswith("job 1 queued")
    assert run("gpus", "release", 0).out.endswith("is back in the queue\n")
    held.wait_for(1, "running")
    assert run("gpus", "--json", "release", 0).document["released"] is False
    failed(run("gpus", "hold", 9, "-r", "x"), "9")


# the way a command ends


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


def test_a_daemon_that_answers_nonsense_is_one_error(run: Run) -> None:
    with scripted(lambda _: Reply(b"<html>")) as server:
        failed(run("queue", "--url", server.url), "hint: another program")


def test_the_program_without_a_command_shows_its_help() -> None:
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 2
    for name in ("serve", "submit", "ps", "status", "logs", "cancel", "queue", "gpus", "doctor"):
        assert name in result.output


def test_every_command_has_help_and_the_version_is_told() -> None:
    for words in (["submit"], ["gpus", "hold"], ["trainer", "install"], ["config", "show"], []):
        assert CliRunner().invoke(app, [*words, "--help"]).exit_code == 0
    assert CliRunner().invoke(app, ["--version"]).output.startswith("training-cluster 0.")


# settings and the doctor


def test_what_config_shows_is_a_settings_file(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINING_CLUSTER_TRAINER__COMMAND", "/bin/sh -c 'echo \"ü\\\\\"'")
    file = tmp_path / "settings.toml"
    file.write_text(run("config", "show").out, "utf-8")
    expected = load_settings()
    monkeypatch.delenv("TRAINING_CLUSTER_TRAINER__COMMAND")
    assert load_settings(file) == expected
    shown = run("config", "show", "--config", file, "--json").document
    assert shown["file"] == str(file)
    assert shown["settings"] == tomllib.loads(file.read_text("utf-8")) | {
        "trainer": shown["settings"]["trainer"]
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prot = 1", "setting prot: there is no such setting"),
        ("port = 'x'", "setting port: "),
        ("[devices]\npoll_seconds = 0", "setting devices.poll_seconds: "),
        ("port = ", "not TOML"),
    ],
)
def test_a_wrong_setting_is_named(run: Run, tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(text)
    for command in (["serve"], ["config", "show"]):
        failed(run(*command, "--config", file), said)
    doctor = run("doctor", "--config", file)
    assert doctor.code == 1
    assert str(file) in doctor.out


def test_a_settings_file_that_is_not_there_is_named(run: Run, tmp_path: Path) -> None:
    failed(run("serve", "--config", tmp_path / "gone.toml"), "gone.toml does not exist")


def test_serve_refuses_a_port_in_use_and_hears_its_flags(
    quick: DaemonProcess, tmp_path: Path
) -> None:
    done = subprocess.run(
        [*PROGRAM, "serve", "--port", str(quick.port), "--state-dir", str(tmp_path / "s")],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1
    assert "error: cannot listen" in done.stderr
    assert "Traceback" not in done.stderr


def verdicts(run: Run, *words: object) -> dict[str, str]:
    """The doctor's findings by name, the worst of those that share one."""
    found = run("doctor", "--json", *words).document["checks"]
    return {check["name"]: check["verdict"] for check in found}


def test_the_doctor_finds_nothing_wrong_where_nothing_is(
    quick: DaemonProcess, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINING_CLUSTER_TRAINER__COMMAND", "/bin/true")
    monkeypatch.setenv("TRAINING_CLUSTER_DEVICES__KIND", "cpu")
    found = verdicts(run)
    assert set(found.values()) == {"ok"}
    assert {"python", "settings", "state_dir", "trainer", "devices", "datasets"} <= found.keys()
    assert {"daemon", "daemon store", "daemon scheduler"} <= found.keys()
    assert run("doctor").code == 0


def test_the_doctor_names_each_thing_that_is_wrong_with_its_cure(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TRAINING_CLUSTER_STATE_DIR", str(tmp_path / "file" / "state"))
    monkeypatch.setenv("TRAINING_CLUSTER_TRAINER__COMMAND", "/no/such/program")
    monkeypatch.setenv("TRAINING_CLUSTER_MODEL_ROOTS", str(tmp_path / "models"))
    monkeypatch.setenv("TRAINING_CLUSTER_DATASET_ROOTS", str(tmp_path))
    monkeypatch.setenv("TRAINING_CLUSTER_DEVICES__KIND", "cpu")
    found = verdicts(run)
    wrong = {name for name, verdict in found.items() if verdict == "fail"}
    assert wrong == {"state_dir", "trainer", "model_roots", "datasets"}
    assert found["daemon"] == "warn"
    result = run("doctor")
    assert result.code == 1
    assert result.out.count("cure: ") == len(wrong) + 1


def test_a_missing_trainer_environment_is_named_with_the_cure(run: Run, tmp_path: Path) -> None:
    failed(run("tiny-model", tmp_path / "m"), "no complete trainer environment", "trainer install")
    failed(run("trainer", "check"), "hint: training-cluster trainer install")
    assert verdicts(run)["trainer"] == "fail"


@pytest.mark.trainer
def test_a_tiny_model_is_made_by_the_trainer_environment(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINING_CLUSTER_DATA_DIR", str(DATA_DIR))
    if not is_complete(environment_path(DATA_DIR)):
        pytest.skip("the trainer environment is not installed")
    assert run("tiny-model", tmp_path / "m", "--json").document == {"path": str(tmp_path / "m")}
    assert json.loads((tmp_path / "m" / "config.json").read_text())["model_type"] == "qwen2"
    failed(run("tiny-model", tmp_path), "holds something else")
    assert run("trainer", "check").code == 0


# speed


def test_a_command_does_not_load_the_daemon(quick: DaemonProcess) -> None:
    heavy = ("fastapi", "uvicorn", "sqlite3", "starlette", "torch", "pandas", "numpy")
    code = (
        "import sys; from training_cluster.cli.main import main; main(['ps']);"
        f"print([name for name in {heavy} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([PROGRAM[0], "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr == "[]\n", done.stderr
