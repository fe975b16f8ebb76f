"""Promises of the W&B worker alone: modes, files, ids, refusals."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.adapters.kept_runs import WandbFiles
from tests.adapters.tracker_parts import (
    HurriedClock,
    a_run,
    a_tracker,
    an_ending,
    deliver,
    processes_of,
    some_lines,
    until,
)
from training_cluster.adapters.tracker_process import WorkerTracker
from training_cluster.domain.errors import TrackerRefused, TrackerUnavailable
from training_cluster.ports import TrackedLine

pytestmark = pytest.mark.trackers

KEY = "0123456789" * 4
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def place(tmp_path: Path, tracker_python: Path) -> WandbFiles:
    """An empty folder for offline runs."""
    return WandbFiles(tmp_path, tracker_python)


@pytest.fixture
async def tracker(place: WandbFiles, tracker_python: Path) -> AsyncIterator[WorkerTracker]:
    """A tracker of that folder, without a key."""
    async with a_tracker(
        "wandb", tracker_python, place.configuration, clock=HurriedClock()
    ) as tracker:
        yield tracker


def positions(place: WandbFiles) -> Counter[int]:
    """How often each position is in the files."""
    return Counter(row[0] for document in place.documents() for row in document["rows"])


async def test_without_a_key_a_run_is_kept_offline_with_a_warning(tracker: WorkerTracker) -> None:
    opened = await tracker.open(a_run())
    assert "wandb sync" in (opened.warning or "")
    assert (opened.url, opened.recorded) == (None, 0)


async def test_a_run_that_is_wanted_offline_gets_no_warning(
    place: WandbFiles, tracker_python: Path
) -> None:
    configuration = {**place.configuration, "mode": "offline"}
    environment = {"WANDB_API_KEY": KEY}
    async with a_tracker(
        "wandb", tracker_python, configuration, environment=environment
    ) as tracker:
        assert (await tracker.open(a_run())).warning is None


async def test_a_row_has_the_lines_position_step_and_time(
    tracker: WorkerTracker, place: WandbFiles
) -> None:
    lines = some_lines(10)
    await deliver(tracker, a_run(), lines, an_ending(10))
    (document,) = place.documents()
    position, row = document["rows"][4]
    assert (position, row["_step"], row["train/global_step"]) == (4, 4, lines[4].step)
    assert row["_timestamp"] == lines[4].time
    assert row["train/loss"] == lines[4].values["train/loss"]
    position, row = document["rows"][9]
    assert "train/global_step" not in row  # it counts samples, not steps


async def test_a_run_carries_configuration_labels_and_ending(
    tracker: WorkerTracker, place: WandbFiles
) -> None:
    ending = an_ending(1, status="cancelled", message="by alice", summary={"final_loss": 0.5})
    await deliver(tracker, a_run(labels=("lab", "lab", "x" * 100)), some_lines(1), ending)
    (document,) = place.documents()
    assert document["project"] == "tests"
    assert document["config"]["learning_rate"] == 2e-5
    assert document["config"]["training_cluster"]["user"] == "alice"
    assert document["tags"][:2] == ["lab", "x" * 64]
    assert document["exit_code"] == 1
    assert document["summary"]["status"] == "cancelled"
    assert document["summary"]["message"] == "by alice"
    assert document["summary"]["final_loss"] == 0.5


async def test_a_run_opened_again_says_how_many_lines_it_has(
    tracker: WorkerTracker, place: WandbFiles
) -> None:
    lines = some_lines(30)
    await tracker.open(a_run())
    await tracker.log("job-1", lines[:20])
    assert (await tracker.open(a_run())).recorded == 20  # while it is open
    await tracker.log("job-1", lines[:25])  # half of it for the second time
    await tracker.finish("job-1", an_ending(25))
    assert (await tracker.open(a_run())).recorded == 25  # by its files
    await tracker.log("job-1", lines)
    await tracker.finish("job-1", an_ending(30))
    assert positions(place) == Counter(range(30))


async def test_files_with_a_torn_end_are_continued_where_they_tear(
    tracker: WorkerTracker, place: WandbFiles
) -> None:
    lines = some_lines(400)
    await deliver(tracker, a_run(), lines, an_ending(400))
    (file,) = place.folder.glob("wandb/offline-run-*/run-*.wandb")
    os.truncate(file, file.stat().st_size * 2 // 3)
    recorded = (await tracker.open(a_run())).recorded or 0
    assert 100 < recorded < 400
    await tracker.log("job-1", lines[recorded:])
    await tracker.finish("job-1", an_ending(400))
    assert positions(place) == Counter(range(400))


async def test_lines_that_are_missing_at_the_end_are_asked_for_again(
    tracker: WorkerTracker, place: WandbFiles
) -> None:
    await tracker.open(a_run())
    await tracker.log("job-1", some_lines(10))
    with pytest.raises(TrackerUnavailable, match="missing"):
        await tracker.finish("job-1", an_ending(11))
    await deliver(tracker, a_run(), some_lines(11), an_ending(11))
    assert positions(place) == Counter(range(11))


async def test_lines_lost_between_worker_and_file_are_noticed_at_the_end(
    tracker: WorkerTracker, place: WandbFiles
) -> None:
    await tracker.open(a_run())
    await tracker.log("job-1", some_lines(10))
    (file,) = place.folder.glob("wandb/offline-run-*/run-*.wandb")
    file.unlink()  # what is written from here on is lost
    with pytest.raises(TrackerUnavailable, match="of 10 lines"):
        await tracker.finish("job-1", an_ending(10))
    await deliver(tracker, a_run(), some_lines(10), an_ending(10))
    assert positions(place) == Counter(range(10))


async def log_slowly(tracker: WorkerTracker, lines: list[TrackedLine]) -> None:
    for start in range(0, len(lines), 10):
        await tracker.log("job-1", lines[start : start + 10])
        await asyncio.sleep(0.05)


async def test_wandb_core_killed_alone_loses_and_doubles_nothing(
    tracker: WorkerTracker, place: WandbFiles
) -> None:
    lines = some_lines(300)
    await tracker.open(a_run())
    await tracker.log("job-1", lines[:100])
    (core,) = set(processes_of(place.folder)) - {tracker.worker_pid}
    os.kill(core, signal.SIGKILL)
    await until(lambda: core not in processes_of(place.folder))
    with pytest.raises(TrackerUnavailable):
        await log_slowly(tracker, lines[100:])  # W&B may notice a moment later
    await deliver(tracker, a_run(), lines, an_ending(300))
    assert positions(place) == Counter(range(300))


async def test_eight_runs_at_once_do_not_mix(tracker: WorkerTracker, place: WandbFiles) -> None:
    runs = {f"job-{number}": some_lines(20 + number) for number in range(8)}
    await asyncio.gather(
        *(
            deliver(tracker, a_run(key), lines, an_ending(len(lines)), batch=3)
            for key, lines in runs.items()
        )
    )
    found = [(document["run_id"], len(document["rows"])) for document in place.documents()]
    assert sorted(found) == sorted((key, len(lines)) for key, lines in runs.items())


async def test_a_line_without_values_is_a_row_all_the_same(
    tracker: WorkerTracker, place: WandbFiles
) -> None:
    lines = [TrackedLine(number, number, 1.5e9, {}) for number in range(3)]
    await deliver(tracker, a_run(), lines, an_ending(3))
    assert positions(place) == Counter(range(3))


async def test_keys_that_differ_have_ids_that_differ(tracker: WorkerTracker) -> None:
    keys = ["a/b", "a b", "a-b", "ä" * 100, "ä" * 101]
    ids = [(await tracker.open(a_run(key))).run_id for key in keys]
    assert len(set(ids)) == len(keys)
    assert all(len(run_id) <= 64 for run_id in ids)


@pytest.mark.parametrize("project", ["a/b", "p" * 200])
async def test_a_project_wandb_never_takes_is_refused(tracker: WorkerTracker, project: str) -> None:
    with pytest.raises(TrackerRefused, match="W&B"):
        await tracker.open(a_run(project=project))


@pytest.mark.slow
async def test_a_dead_server_is_unavailable_long_before_the_deadline(
    place: WandbFiles, tracker_python: Path
) -> None:
    async with online(place, tracker_python) as tracker:
        with pytest.raises(TrackerUnavailable, match="W&B"):
            await tracker.open(a_run())
        with pytest.raises(TrackerUnavailable, match="a moment ago"):
            await tracker.open(a_run("job-2"))
        assert tracker.worker_pid is not None


async def test_a_key_in_a_netrc_file_counts_for_its_host(
    place: WandbFiles, tracker_python: Path
) -> None:
    netrc = place.folder / "keys"
    netrc.write_text(f"machine 127.0.0.1:9 login user password {KEY}\n")
    netrc.chmod(0o600)
    async with online(place, tracker_python, {"NETRC": str(netrc)}) as tracker:
        with pytest.raises(TrackerUnavailable):
            await tracker.open(a_run())
    netrc.write_text(f"machine elsewhere login user password {KEY}\n")
    async with online(place, tracker_python, {"NETRC": str(netrc)}) as tracker:
        assert (await tracker.open(a_run())).warning


async def test_a_key_that_cannot_be_one_is_a_matter_for_the_operator(
    place: WandbFiles, tracker_python: Path
) -> None:
    async with online(place, tracker_python, {"WANDB_API_KEY": "short"}) as tracker:
        with pytest.raises(TrackerUnavailable, match="W&B"):
            await tracker.open(a_run())


async def test_no_process_outlives_a_killed_worker(
    tracker: WorkerTracker, place: WandbFiles
) -> None:
    await tracker.open(a_run())
    assert len(processes_of(place.folder)) == 2
    os.kill(tracker.worker_pid or 0, signal.SIGKILL)
    await until(lambda: not processes_of(place.folder))


def online(place: WandbFiles, python: Path, environment: dict[str, str] | None = None) -> Any:
    """A tracker of a server that is not there, with a key unless said otherwise."""
    configuration = {**place.configuration, "base_url": NOWHERE}
    keys = {"WANDB_API_KEY": KEY} if environment is None else environment
    return a_tracker("wandb", python, configuration, environment=keys)
