"""Looking after jobs and devices from the command line, against a real daemon."""

from __future__ import annotations

from tests.cli.conftest import Run, failed
from tests.daemon_process import DaemonProcess
from training_cluster.cli.terminal import clean
from training_cluster.settings import load_settings

DATA_DIR = load_settings().data_dir


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


def test_jobs_are_paused_resumed_and_tried_again(held: DaemonProcess, run: Run) -> None:
    run("submit")
    run("submit")
    assert run("pause", 2).out == "job 2 is paused\n"
    assert run("ps", "--status", "paused", "--json").document["jobs"][0]["number"] == 2
    assert run("resume", 2, "--priority", 5).out == "job 2 is queued\n"
    failed(run("resume", 2), "only a paused job can be resumed")
    failed(run("retry", 1), "only a job that failed or was cancelled")
    assert run("pause", 1).out == "job 1 is stopping\n"
    held.wait_for(1, "paused")
    run("cancel", 1)
    assert run("retry", 1, "--from-start", "--json").document[0]["resumed_from_step"] == 0


def test_a_device_is_held_and_released(held: DaemonProcess, run: Run) -> None:
    assert "is held until 2" in run("gpus", "hold", 0, "-r", "lunch", "--minutes", 5).out
    assert "lunch" in run("gpus").out
    assert run("submit").out.startswith("job 1 queued")
    assert run("gpus", "release", 0).out.endswith("is back in the queue\n")
    held.wait_for(1, "running")
    assert run("gpus", "--json", "release", 0).document["released"] is False
    failed(run("gpus", "hold", 9, "-r", "x"), "9")
