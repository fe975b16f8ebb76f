"""metrics, events and status --plot, against a real daemon."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest

from tests.cli.conftest import Run, Started, failed
from tests.daemon_process import DaemonProcess

LOSSES = [4.0 / step for step in range(1, 6)]


@pytest.fixture
def trained(stepping: DaemonProcess) -> DaemonProcess:
    """The chosen daemon, whose job 1 has made five steps."""
    stepping.wait_for(stepping.submit()["job_id"], "completed")
    return stepping


def test_metrics_are_shown_told_and_tabled(run: Run, trained: DaemonProcess) -> None:
    shown = run("metrics", 1)
    assert shown.code == 0
    loss = next(line.split() for line in shown.out.splitlines() if line.startswith("train/loss"))
    assert loss == ["train/loss", "0.8", "0.8", "4", "5", "5"]

    document = run("metrics", 1, "--names", "train/loss,train/epoch", "--json").document
    assert [curve["name"] for curve in document["curves"]] == ["train/epoch", "train/loss"]
    assert document["curves"][1]["values"] == LOSSES

    table = run("metrics", 1, "--csv", "--names", "train/loss").out
    rows = list(csv.DictReader(io.StringIO(table, newline="")))
    assert [float(row["train/loss"]) for row in rows] == LOSSES

    followed = run("metrics", 1, "-f", "--names", "train/loss").out.splitlines()
    assert [line.partition("  ")[2] for line in followed] == [
        f"step {n}  train/loss {loss:.6g}" for n, loss in enumerate(LOSSES, start=1)
    ]


def test_the_loss_is_drawn(run: Run, trained: DaemonProcess) -> None:
    picture = run("status", 1, "--plot").out
    assert "training loss by step" in picture
    assert "completed" in picture
    assert re.search(r"[\u2801-\u28ff]{3}", picture), "a line of braille dots"


def test_a_job_without_a_loss_has_no_picture(run: Run, quick: DaemonProcess) -> None:
    number = quick.submit()["number"]
    quick.wait_for(number)
    result = run("status", number, "--plot")
    assert (result.code, result.err.strip()) == (0, "there is no loss to draw yet")
    assert run("metrics", number).err.startswith("nothing was measured")


def test_events_tell_the_story_of_a_job(run: Run, trained: DaemonProcess) -> None:
    lines = run("events", 1).out.splitlines()
    kinds = [line.split()[2] for line in lines]
    assert kinds == ["job.queued", "job.starting", "job.started", "job.completed"]
    assert "job 1 attempt 1" in lines[1]
    assert 'devices=["CPU-0"]' in lines[1]
    assert run("events", 1, "-f").out.splitlines() == lines, "of one job: from its beginning"
    document = run("events", "--json", "--limit", 2).document
    assert [event["type"] for event in document["events"]] == kinds[-2:]
    assert "job.completed" in run("events", "--type", "job.completed").out
    failed(run("events", "--type", "job.exploded"), "type")
    failed(run("events", 99), "no job '99'")


def test_metrics_are_followed_while_the_job_runs(led: DaemonProcess, tmp_path: Path) -> None:
    led.submit()
    (tmp_path / "steps").write_text("2")
    following = Started("metrics", "1", "--follow")
    following.until("step 2  train/loss 2")
    assert led.job(1)["status"] == "running"
    (tmp_path / "steps").write_text("4")
    (tmp_path / "may-end").write_text("0")
    assert following.end() == 0
    assert "step 4" in following.text


def test_ctrl_c_ends_the_following_and_not_the_job(held: DaemonProcess) -> None:
    held.submit()
    for command in (("metrics", "1", "-f"), ("events", "1", "-f")):
        following = Started(*command)
        if command[0] == "events":
            following.until("job.started")
        else:
            held.wait_for(1, "running")
            following.until("")
        following.interrupt()
        assert following.end() in (130, 1, -2)
    assert held.job(1)["status"] == "running"


@pytest.mark.parametrize(
    "words",
    [
        ("metrics", "1", "-f", "--json"),
        ("metrics", "1", "--csv", "--json"),
        ("metrics", "1", "--csv", "-f"),
        ("events", "-f", "--json"),
        ("status", "1", "--plot", "--json"),
    ],
)
def test_what_does_not_go_together_is_refused(run: Run, words: tuple[str, ...]) -> None:
    failed(run(*words), "cannot go with", code=2)
