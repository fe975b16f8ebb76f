"""One suite for every tracker: what is told arrives once, whatever happens to the worker."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.adapters.kept_runs import Kept, MlflowDatabase, MlflowServer, Place, WandbFiles
from tests.adapters.tracker_parts import (
    STARTED,
    HurriedClock,
    a_tracker,
    an_ending,
    deliver,
    points,
    processes_of,
    some_lines,
    until,
)
from training_cluster.domain.errors import TrackerUnavailable
from training_cluster.ports import TrackedLine

pytestmark = pytest.mark.trackers


@pytest.fixture(scope="module")
def mlflow_server(
    tmp_path_factory: pytest.TempPathFactory, tracker_python: Path
) -> Iterator[MlflowServer]:
    """One server for the module: starting it takes long."""
    server = MlflowServer(tmp_path_factory.mktemp("server"), tracker_python)
    yield server
    server.stop()


# the database without a server is used by the acceptance tests in every run
PLACES = [
    pytest.param("mlflow-database", marks=pytest.mark.slow),
    "mlflow-server",
    "wandb-offline",
]


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path, tracker_python: Path) -> Place:
    """A real place for runs, of each kind, with none in it."""
    if request.param == "mlflow-database":
        return MlflowDatabase(tmp_path, tracker_python)
    if request.param == "wandb-offline":
        return WandbFiles(tmp_path, tracker_python)
    server: MlflowServer = request.getfixturevalue("mlflow_server")
    return server.for_test(request.node.name, tmp_path)


def tracker_at(place: Place, python: Path, **changes: Any) -> Any:
    """A tracker that keeps its runs there."""
    return a_tracker(place.tracker, python, place.configuration, **changes)


def assert_has_exactly(kept: Kept, lines: list[TrackedLine]) -> None:
    """Point for point: names, steps, times, values; none lost, none twice."""
    told = points(lines)
    assert set(kept.points) == set(told)
    for name, curve in kept.points.items():
        steps = [point[0] for point in curve]
        if None in steps:  # W&B has no step for lines about devices
            assert name.startswith("system/")
            told[name] = [(None, *point[1:]) for point in told[name]]  # type: ignore[misc]
        assert len(curve) == len(told[name])
        assert steps == [point[0] for point in told[name]]
        assert [p[2] for p in curve] == [p[2] for p in told[name]]
        assert [p[1] for p in curve] == pytest.approx([p[1] for p in told[name]], abs=0.001)


async def test_a_run_is_read_back_point_for_point(place: Place, tracker_python: Path) -> None:
    lines = some_lines(500)
    async with tracker_at(place, tracker_python) as tracker:
        assert await deliver(tracker, place.run(), lines, an_ending(500)) == 1
    (kept,) = place.read()
    assert_has_exactly(kept, lines)
    assert (kept.name, kept.status) == ("run of job-1", "completed")
    assert str(kept.parameters["learning_rate"]) == "2e-05"
    assert kept.parameters["model_name"] == "tiny"


async def test_a_run_ends_as_its_job_did(place: Place, tracker_python: Path) -> None:
    statuses = ["completed", "failed", "cancelled"]
    async with tracker_at(place, tracker_python) as tracker:
        for status in statuses:
            ending = an_ending(1, status=status, message="so")
            await deliver(tracker, place.run(status), some_lines(1), ending)
    assert {kept.name: kept.status for kept in place.read()} == {
        f"run of {status}": status for status in statuses
    }


async def test_two_runs_at_a_time_do_not_mix(place: Place, tracker_python: Path) -> None:
    lines = {"one": some_lines(120), "two": some_lines(77)}
    async with tracker_at(place, tracker_python) as tracker:
        await asyncio.gather(
            *(
                deliver(tracker, place.run(key), told, an_ending(len(told)), batch=7)
                for key, told in lines.items()
            )
        )
    kept = {run.name: run for run in place.read()}
    assert len(kept) == 2
    for key, told in lines.items():
        assert_has_exactly(kept[f"run of {key}"], told)


async def test_a_finished_run_is_opened_again_and_continues(
    place: Place, tracker_python: Path
) -> None:
    lines = some_lines(60)
    async with tracker_at(place, tracker_python) as tracker:
        failed = an_ending(40, status="failed")
        await deliver(tracker, place.run(), lines[:40], failed)
        await deliver(tracker, place.run(), lines[:40], failed)  # a daemon that forgot asks again
        await deliver(tracker, place.run(), lines, an_ending(60))
    (kept,) = place.read()
    assert_has_exactly(kept, lines)
    assert kept.status == "completed"


async def test_artifacts_arrive_once_under_their_names(
    place: Place, tracker_python: Path, tmp_path: Path
) -> None:
    config, model = tmp_path / "odd[1]*.yaml", tmp_path / "model"
    config.write_text("a: 1")
    (model / "deep").mkdir(parents=True)
    (model / "README.md").write_text("card")
    (model / "deep" / "weights").write_bytes(b"\0" * 1000)
    (model / "stolen").symlink_to("/etc/passwd")
    artifacts = {"config/train.yaml": config, "model": model, "gone.txt": tmp_path / "gone"}
    ending = an_ending(1, artifacts=artifacts)
    async with tracker_at(place, tracker_python) as tracker:
        await deliver(tracker, place.run(), some_lines(1), ending)
        await deliver(tracker, place.run(), some_lines(1), ending)
    (kept,) = place.read()
    assert kept.artifacts == ["config/train.yaml", "model/README.md", "model/deep/weights"]


async def test_hostile_names_and_values_are_taken(place: Place, tracker_python: Path) -> None:
    names = [
        "<script>",
        "über/verlust",
        "../../etc",
        "/abs",
        "a//b",
        "n" * 400,
        "_step",
        "x y",
        ".",
    ]
    values = {name: float(number) for number, name in enumerate(names)}
    line = TrackedLine(0, 7, STARTED, {**values, "huge": 1.5e308, "tiny": -5e-324})
    run = place.run(
        "key with 'quotes' / and <more>",
        name="<b>näme</b> '\"" + "n" * 300,
        parameters={"long": "v" * 20_000, "<&>": "$(x)", "": "empty", "p" * 300: None},
        tags={"t<g": "ü" * 9000, "user": "o'hara"},
        labels=("l" * 200, "l" * 200, ""),
    )
    ending = an_ending(1, message="m" * 20_000, summary={"<final>": "x\0y", "loss": 1e300})
    async with tracker_at(place, tracker_python) as tracker:
        await deliver(tracker, run, [line], ending)
        await tracker.open(run)
        await tracker.finish(run.key, ending)
    (kept,) = place.read()
    found = sorted(point[2] for curve in kept.points.values() for point in curve)
    assert found == sorted(line.values.values())


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.slow)])
async def test_kills_at_random_moments_lose_and_double_nothing(
    place: Place, tracker_python: Path, kills: int
) -> None:
    """Hit are the worker, while it starts or works, and wandb-core."""
    lines, moments = some_lines(500), random.Random(kills)
    batches: list[None] = []
    folder = Path(place.configuration["folder"])
    noted = partial(batches.append, None)
    async with tracker_at(place, tracker_python, clock=HurriedClock()) as tracker:
        work = asyncio.create_task(
            deliver(tracker, place.run(), lines, an_ending(500), batch=5, acknowledged=noted)
        )
        for _ in range(kills):
            wanted = len(batches) + moments.randrange(5)
            await until(partial(_has_reached, batches, wanted))
            await asyncio.sleep(moments.uniform(0.0, 0.03))
            victims = await until(lambda: processes_of(folder))
            with contextlib.suppress(ProcessLookupError):
                os.kill(moments.choice(victims), signal.SIGKILL)
            assert not work.done()
        await work
    (kept,) = place.read()
    assert_has_exactly(kept, lines)
    assert kept.status == "completed"


async def test_a_stopped_worker_is_replaced_and_work_goes_on(
    place: Place, tracker_python: Path
) -> None:
    lines = some_lines(100)
    async with tracker_at(place, tracker_python, clock=HurriedClock()) as tracker:
        await tracker.open(place.run())
        await tracker.log("job-1", lines[:30])
        os.kill(tracker.worker_pid or 0, signal.SIGSTOP)
        ordinary, tracker.deadline_seconds = tracker.deadline_seconds, 0.5
        with pytest.raises(TrackerUnavailable):
            await tracker.log("job-1", lines[30:60])
        tracker.deadline_seconds = ordinary
        await deliver(tracker, place.run(), lines, an_ending(100))
    (kept,) = place.read()
    assert_has_exactly(kept, lines)


async def test_nothing_is_left_when_the_daemon_is_killed(
    place: Place, tracker_python: Path, tmp_path: Path
) -> None:
    """A process with an open run is killed -9; its successor finds the place free, and the run."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT.format(python=str(tracker_python), **vars_of(place)))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    parent = subprocess.Popen([sys.executable, str(script)], stdout=-1, env=environment)
    assert parent.stdout is not None
    assert await asyncio.to_thread(parent.stdout.readline) == b"open\n"
    parent.kill()
    parent.wait()
    parent.stdout.close()
    lines = some_lines(50)
    async with tracker_at(place, tracker_python) as tracker:
        await deliver(tracker, place.run(), lines, an_ending(50))
    (kept,) = place.read()
    assert_has_exactly(kept, lines)


def _has_reached(batches: list[None], number: int) -> bool:
    return len(batches) >= number


def vars_of(place: Place) -> dict[str, Any]:
    """What the killed parent needs to know."""
    project = place.run().project
    return {"name": place.tracker, "configuration": place.configuration, "project": project}


PARENT = """
import asyncio, time
from pathlib import Path
from tests.adapters.tracker_parts import a_run, some_lines
from training_cluster.adapters.system_clock import SystemClock
from training_cluster.adapters.tracker_process import WorkerTracker, worker_command

async def main():
    configuration = {configuration!r}
    command = worker_command(Path({python!r}), {name!r})
    environment = {{"HOME": configuration["folder"]}}
    tracker = WorkerTracker({name!r}, command, configuration, environment, clock=SystemClock())
    await tracker.open(a_run(project={project!r}))
    await tracker.log("job-1", some_lines(30))
    print("open", flush=True)
    time.sleep(600)

asyncio.run(main())
"""
