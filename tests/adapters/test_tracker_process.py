"""Promises of the tracker adapter, whatever its worker does; the worker here is a script."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.adapters.tracker_parts import (
    a_run,
    a_tracker,
    an_ending,
    processes_of,
    some_lines,
    until,
)
from tests.fakes import FakeClock
from training_cluster.adapters.tracker_process import WorkerTracker
from training_cluster.domain.errors import TrackerRefused, TrackerUnavailable

SCRIPT = Path(__file__).parent / "scripted_worker.py"


@contextlib.asynccontextmanager
async def scripted(folder: Path, **changes: Any) -> AsyncIterator[WorkerTracker]:
    """A tracker whose worker is the script."""
    command = (sys.executable, "-I", "-S", str(SCRIPT))
    settings = {"command": command, "deadline_seconds": 30.0, **changes}
    async with a_tracker("scripted", Path(), {"folder": str(folder)}, **settings) as tracker:
        yield tracker


def requests(folder: Path) -> list[dict[str, Any]]:
    """What the worker was asked."""
    return [json.loads(line) for line in (folder / "requests").read_text().splitlines()]


async def test_no_worker_runs_before_the_first_run_is_opened(tmp_path: Path) -> None:
    async with scripted(tmp_path) as tracker:
        assert tracker.worker_pid is None
        await tracker.open(a_run("plain"))
        assert tracker.worker_pid in processes_of(tmp_path)


async def test_a_run_reaches_the_worker_as_it_is(tmp_path: Path) -> None:
    run = a_run("plain", entity="team", run_id="r1")
    artifact = tmp_path / "train.yaml"
    ending = an_ending(
        2, message="why", summary={"loss": 0.5}, artifacts={"c/train.yaml": artifact}
    )
    async with scripted(tmp_path) as tracker:
        await tracker.open(run)
        await tracker.log(run.key, some_lines(2))
        await tracker.finish(run.key, ending)
    configure, opened, logged, finished = requests(tmp_path)
    assert configure["configuration"]["folder"] == str(tmp_path)
    assert opened["run"]["parameters"] == dict(run.parameters)
    assert (opened["run"]["entity"], opened["run"]["run_id"]) == ("team", "r1")
    assert logged["lines"] == [[x.position, x.step, x.time, dict(x.values)] for x in some_lines(2)]
    assert finished["ending"]["artifacts"] == {"c/train.yaml": str(artifact)}


@pytest.mark.parametrize(
    ("key", "error"), [("refused", TrackerRefused), ("unavailable", TrackerUnavailable)]
)
async def test_what_the_worker_says_is_raised(
    tmp_path: Path, key: str, error: type[Exception]
) -> None:
    async with scripted(tmp_path) as tracker:
        with pytest.raises(error, match="says the script"):
            await tracker.open(a_run(key))


async def test_a_dying_worker_fails_every_request_and_names_the_reason(tmp_path: Path) -> None:
    async with scripted(tmp_path) as tracker:
        await tracker.open(a_run("plain"))
        waiting = asyncio.create_task(tracker.open(a_run("silent")))
        await until(lambda: len(requests(tmp_path)) == 3)
        with pytest.raises(TrackerUnavailable, match="the reason"):
            await tracker.open(a_run("die"))
        with pytest.raises(TrackerUnavailable, match="the reason"):
            await waiting


async def test_a_run_is_to_be_opened_again_after_the_worker_died(tmp_path: Path) -> None:
    clock = FakeClock()
    async with scripted(tmp_path, clock=clock) as tracker:
        await tracker.open(a_run("plain"))
        before = tracker.generation
        os.kill(tracker.worker_pid or 0, signal.SIGKILL)
        await until(lambda: tracker.worker_pid is None)
        for act in (tracker.log("plain", some_lines(1)), tracker.finish("plain", an_ending(1))):
            with pytest.raises(TrackerUnavailable, match="open it again"):
                await act
        clock.advance(1)
        await tracker.open(a_run("plain"))
        assert tracker.generation == before + 1
        await tracker.log("plain", some_lines(1))


async def test_a_run_nobody_opened_takes_no_lines(tmp_path: Path) -> None:
    async with scripted(tmp_path) as tracker:
        with pytest.raises(TrackerUnavailable, match="open it again"):
            await tracker.log("plain", some_lines(1))


@pytest.mark.parametrize("key", ["silent", "stopped", "garbage"])
async def test_a_worker_that_never_answers_is_killed_and_work_goes_on(
    tmp_path: Path, key: str
) -> None:
    clock = FakeClock()
    async with scripted(tmp_path, clock=clock, deadline_seconds=0.5) as tracker:
        with pytest.raises(TrackerUnavailable):
            await tracker.open(a_run(key))
        assert not processes_of(tmp_path)
        clock.advance(1)
        assert (await tracker.open(a_run("plain"))).run_id == "plain"


async def test_more_than_a_pipe_holds_does_not_hang_on_a_stopped_worker(tmp_path: Path) -> None:
    async with scripted(tmp_path, deadline_seconds=0.5) as tracker:
        await tracker.open(a_run("plain"))
        os.kill(tracker.worker_pid or 0, signal.SIGSTOP)
        with pytest.raises(TrackerUnavailable, match="no answer"):
            await tracker.log("plain", some_lines(20_000))


async def test_starts_come_apart_ever_further_until_something_succeeds(tmp_path: Path) -> None:
    clock = FakeClock()
    async with scripted(tmp_path, clock=clock) as tracker:
        for pause in (1, 2, 4, 8, 16, 32, 60, 60):
            with pytest.raises(TrackerUnavailable, match="the reason"):
                await tracker.open(a_run("die"))
            starts = tracker.generation
            clock.advance(pause - 0.5)
            with pytest.raises(TrackerUnavailable, match="next try"):
                await tracker.open(a_run("plain"))
            assert tracker.generation == starts
            clock.advance(0.5)
        await tracker.open(a_run("plain"))
        await tracker.log("plain", some_lines(1))
        with pytest.raises(TrackerUnavailable):
            await tracker.open(a_run("die"))
        clock.advance(1)
        await tracker.open(a_run("plain"))


async def test_a_missing_environment_names_the_command_that_installs_it(tmp_path: Path) -> None:
    async with scripted(tmp_path, command=(str(tmp_path / "none/bin/python"), "x")) as tracker:
        with pytest.raises(TrackerUnavailable) as raised:
            await tracker.open(a_run())
    assert "training-cluster tracker install" in (raised.value.hint or "")


async def test_what_a_worker_started_in_another_session_dies_with_it(tmp_path: Path) -> None:
    async with scripted(tmp_path) as tracker:
        child = int((await tracker.open(a_run("child"))).run_id)
        await until(lambda: child in processes_of(tmp_path))
        with pytest.raises(TrackerUnavailable):
            await tracker.open(a_run("die"))
        assert not processes_of(tmp_path)


async def test_close_leaves_no_process_even_of_a_stopped_worker(tmp_path: Path) -> None:
    async with scripted(tmp_path) as tracker:
        await tracker.open(a_run("child"))
        os.kill(tracker.worker_pid or 0, signal.SIGSTOP)
        await tracker.close()
        assert not processes_of(tmp_path)
        await tracker.close()
        with pytest.raises(TrackerUnavailable, match="closed"):
            await tracker.open(a_run("plain"))


async def test_a_worker_without_open_runs_gives_its_memory_back(tmp_path: Path) -> None:
    async with scripted(tmp_path, idle_seconds=0.2) as tracker:
        await tracker.open(a_run("plain"))
        await tracker.log("plain", some_lines(1))
        await tracker.finish("plain", an_ending(1))
        await until(lambda: not processes_of(tmp_path))
        await until(lambda: tracker.worker_pid is None)
        await tracker.open(a_run("plain"))  # at once: this was no failure
        await asyncio.sleep(0.5)  # longer than idle: an open run keeps its worker
        await tracker.log("plain", some_lines(1))


async def test_the_workers_log_does_not_grow_for_ever(tmp_path: Path) -> None:
    log = tmp_path / "scripted-worker.log"
    log.write_bytes(b"x" * 5_000_001)
    async with scripted(tmp_path) as tracker:
        await tracker.open(a_run("plain"))
        assert log.stat().st_size < 1000


async def test_a_worker_that_cannot_serve_says_why(tmp_path: Path) -> None:
    script = tmp_path / "broken.py"
    script.write_text("import mlflow_is_not_here")
    async with scripted(tmp_path, command=(sys.executable, "-I", str(script))) as tracker:
        with pytest.raises(TrackerUnavailable, match="mlflow_is_not_here") as raised:
            await tracker.open(a_run())
    assert "training-cluster tracker install" in (raised.value.hint or "")
