"""Submitting from the command line, against a real daemon."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run, failed
from tests.daemon_process import DaemonProcess
from training_cluster.cli.job_file import FIELDS, assemble
from training_cluster.settings import load_settings

# before the tests get a home of their own
DATA_DIR = load_settings().data_dir


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


def test_trackers_and_where_their_runs_go_are_put_together(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("tracking: {project: lab, entity: team}\ntracking_backend: none\n")
    flags = {"tracking_backend": ["mlflow,wandb", "mlflow"], "tracking": ["tags=a,b", "project=7"]}
    job = assemble(str(file), ["tracking.run_name=first"], flags)
    assert job["tracking_backend"] == ["mlflow", "wandb", "mlflow"]
    assert job["tracking"] == {
        "project": "7",
        "entity": "team",
        "run_name": "first",
        "tags": ["a", "b"],
    }
    assert assemble(None, [], {"tracking_backend": ["none"]}) == {"tracking_backend": "none"}


def test_a_job_tells_several_trackers(quick: DaemonProcess, run: Run) -> None:
    words = ("--tracking-backend", "mlflow,wandb", "--tracking", "project=lab")
    number = run("submit", *words, "--json").document["number"]
    config = quick.job(number)["config"]
    assert config["tracking_backend"] == ["mlflow", "wandb"]
    assert config["tracking"] == {"project": "lab"}


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
