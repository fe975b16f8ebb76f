"""Promises of the MLflow worker alone: names, times, links, and a server that comes and goes."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.adapters.kept_runs import MlflowDatabase, MlflowServer
from tests.adapters.tracker_parts import (
    STARTED,
    HurriedClock,
    a_run,
    a_tracker,
    an_ending,
    deliver,
    points,
    some_lines,
    until,
)
from training_cluster.adapters.tracker_process import WorkerTracker
from training_cluster.domain.errors import TrackerRefused, TrackerUnavailable

pytestmark = pytest.mark.trackers


@pytest.fixture
def database(tmp_path: Path, tracker_python: Path) -> MlflowDatabase:
    """An empty database, made by the first run."""
    return MlflowDatabase(tmp_path, tracker_python)


@pytest.fixture
async def tracker(database: MlflowDatabase, tracker_python: Path) -> AsyncIterator[WorkerTracker]:
    """A tracker at the database."""
    async with a_tracker("mlflow", tracker_python, database.configuration) as tracker:
        yield tracker


@pytest.fixture
def server(tmp_path: Path, tracker_python: Path) -> Iterator[MlflowServer]:
    """A server of the test's own."""
    server = MlflowServer(tmp_path, tracker_python)
    yield server
    server.kill()


@pytest.mark.slow
async def test_a_server_killed_midway_loses_and_doubles_nothing(
    server: MlflowServer, tracker_python: Path
) -> None:
    lines, batches = some_lines(300), []  # type: ignore[var-annotated]
    configuration = server.configuration
    async with a_tracker("mlflow", tracker_python, configuration, clock=HurriedClock()) as tracker:
        work = asyncio.create_task(
            deliver(
                tracker,
                server.run(),
                lines,
                an_ending(300),
                batch=5,
                acknowledged=lambda: batches.append(None),
            )
        )
        for _ in range(2):
            wanted = len(batches) + 7
            await until(lambda wanted=wanted: len(batches) >= wanted)  # type: ignore[misc]
            server.kill()
            assert not work.done()
            await asyncio.to_thread(server.start)
        await work
    (run,) = server.document()["runs"]
    for name, curve in points(lines).items():
        expected = [[step, round(time * 1000), value] for step, time, value in curve]
        assert sorted(run["metrics"][name], key=lambda point: point[1]) == expected
    assert run["status"] == "FINISHED"


async def test_a_dead_server_is_unavailable_long_before_the_deadline(
    tmp_path: Path, tracker_python: Path
) -> None:
    configuration = {"folder": str(tmp_path), "uri": "http://127.0.0.1:9"}
    async with a_tracker("mlflow", tracker_python, configuration) as tracker:
        with pytest.raises(TrackerUnavailable, match="MLflow: "):
            await tracker.open(a_run())
        assert tracker.worker_pid is not None  # it said so itself, nobody had to kill it


@pytest.mark.slow
async def test_a_silent_server_is_unavailable_long_before_the_deadline(
    tmp_path: Path, tracker_python: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        uri = f"http://127.0.0.1:{listener.getsockname()[1]}"
        configuration = {"folder": str(tmp_path), "uri": uri}
        async with a_tracker("mlflow", tracker_python, configuration) as tracker:
            with pytest.raises(TrackerUnavailable, match="MLflow: "):
                await tracker.open(a_run())
            assert tracker.worker_pid is not None


async def test_the_true_times_are_kept(tracker: WorkerTracker, database: MlflowDatabase) -> None:
    await deliver(tracker, a_run(), some_lines(1), an_ending(1))
    (run,) = database.document()["runs"]
    assert run["start_time"] == 1000 * STARTED
    assert run["end_time"] == 1000 * an_ending(1).ended_at


async def test_tags_name_the_job_and_its_ending(
    tracker: WorkerTracker, database: MlflowDatabase
) -> None:
    ending = an_ending(1, status="failed", message="out of memory", summary={"final_loss": 0.5})
    await deliver(tracker, a_run(labels=("a", "b")), some_lines(1), ending)
    tags = database.document()["runs"][0]["tags"]
    assert tags["training_cluster.run"] == "job-1"
    assert tags["training_cluster.message"] == "out of memory"
    assert (tags["user"], tags["labels"], tags["summary.final_loss"]) == ("alice", "a, b", "0.5")


async def test_a_parameter_that_changed_later_does_not_stop_the_run(
    tracker: WorkerTracker, database: MlflowDatabase
) -> None:
    await tracker.open(a_run(parameters={"batch_size": 1}))
    await tracker.open(a_run(parameters={"batch_size": 2, "gpus": 1}))
    assert database.document()["runs"][0]["params"] == {"batch_size": "1", "gpus": "1"}


async def test_many_long_parameters_are_taken(
    tracker: WorkerTracker, database: MlflowDatabase
) -> None:
    parameters = {f"name {number}": "x" * 7000 for number in range(250)}
    await tracker.open(a_run(parameters=parameters))
    await tracker.open(a_run(parameters=parameters))
    params = database.document()["runs"][0]["params"]
    assert set(params) == set(parameters)
    assert set(params.values()) == {"x" * 6000}


async def test_runs_of_a_new_experiment_opened_at_once_share_it(
    tracker: WorkerTracker, database: MlflowDatabase
) -> None:
    keys = [f"job-{number}" for number in range(6)]
    opened = await asyncio.gather(*(tracker.open(a_run(key)) for key in keys))
    assert len({run.run_id for run in opened}) == len(keys)
    assert len(database.document()["runs"]) == len(keys)


async def test_an_opened_run_is_running_again(
    tracker: WorkerTracker, database: MlflowDatabase
) -> None:
    await deliver(tracker, a_run(), some_lines(1), an_ending(1))
    await tracker.open(a_run())
    assert database.document()["runs"][0]["status"] == "RUNNING"


async def test_a_run_is_found_by_its_id_in_another_experiment(
    tracker: WorkerTracker, database: MlflowDatabase
) -> None:
    first = await tracker.open(a_run())
    again = await tracker.open(a_run(run_id=first.run_id, project="renamed"))
    assert again.run_id == first.run_id


async def test_a_run_that_somebody_deleted_is_refused(
    tracker: WorkerTracker, database: MlflowDatabase, tracker_python: Path
) -> None:
    opened = await tracker.open(a_run())
    script = "import sys, mlflow; mlflow.MlflowClient(sys.argv[1]).delete_run(sys.argv[2])"
    command = [str(tracker_python), "-I", "-c", script, database.uri, opened.run_id]
    await asyncio.to_thread(subprocess.run, command, check=True)
    with pytest.raises(TrackerRefused, match="deleted"):
        await tracker.open(a_run(run_id=opened.run_id))


async def test_a_link_leads_to_the_run_and_shows_no_password(
    tmp_path: Path, tracker_python: Path, database: MlflowDatabase
) -> None:
    ui = {"ui_url": "http://user:secret@lab:5000/"}
    async with a_tracker("mlflow", tracker_python, {**database.configuration, **ui}) as tracker:
        opened = await tracker.open(a_run())
    experiment = database.document()["experiment"]
    assert opened.url == f"http://lab:5000/#/experiments/{experiment}/runs/{opened.run_id}"


async def test_a_database_without_a_ui_has_no_link(tracker: WorkerTracker) -> None:
    assert (await tracker.open(a_run())).url is None


async def test_what_libraries_print_cannot_break_the_protocol(
    database: MlflowDatabase, tracker_python: Path
) -> None:
    noisy = (str(tracker_python), "-I", "-c", NOISY, str(WORKER), "mlflow")
    async with a_tracker(
        "mlflow", tracker_python, database.configuration, command=noisy
    ) as tracker:
        await deliver(tracker, a_run(), some_lines(50), an_ending(50), batch=1)
    log = Path(database.configuration["folder"]) / "mlflow-worker.log"
    assert "noise by print" in log.read_text()
    assert "noise by a child" in log.read_text()


async def test_a_store_that_vanished_is_made_again(
    tracker: WorkerTracker, database: MlflowDatabase, tmp_path: Path
) -> None:
    """The daemon resends a run from its start when it is told that the run is not there."""
    opened = await tracker.open(a_run())
    await tracker.close()
    (tmp_path / "mlflow.db").unlink()
    shutil.rmtree(tmp_path / "artifacts", ignore_errors=True)
    async with a_tracker("mlflow", database.python, database.configuration) as successor:
        again = await successor.open(a_run(run_id=opened.run_id))
        assert again.run_id != opened.run_id


WORKER = Path(__file__).parents[2] / "training_cluster" / "tracker_worker"
NOISY = """
import os, runpy, sys, threading, time
def noise():
    while os.fstat(1).st_ino != os.fstat(2).st_ino:  # until the worker has taken its pipes
        time.sleep(0.001)
    while True:
        print("noise by print", flush=True)
        os.system("echo noise by a child")
        time.sleep(0.01)
threading.Thread(target=noise, daemon=True).start()
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
