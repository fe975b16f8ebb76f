"""Promises of the W&B worker and of `wandb sync` towards a server that answers (a stand-in)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

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
from tests.adapters.wandb_stand_in import KEY, Run, WandbStandIn
from training_cluster.cli.main import main
from training_cluster.domain.errors import TrackerRefused, TrackerUnavailable
from training_cluster.ports import TrackedLine

pytestmark = pytest.mark.trackers

WITH_KEY = {"WANDB_API_KEY": KEY}
WRONG_KEY = {"WANDB_API_KEY": "f" * 40}


@pytest.fixture
def server() -> Iterator[WandbStandIn]:
    """A server that answers, with no run."""
    server = WandbStandIn()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The state directory of a daemon."""
    (tmp_path / "state" / "wandb").mkdir(parents=True)
    return tmp_path / "state"


@pytest.fixture
def tracker(server: WandbStandIn, state: Path, tracker_python: Path) -> Any:
    """Makes trackers of that server and state, with a good key unless told otherwise."""

    def make(environment: dict[str, str] = WITH_KEY, **configuration: Any) -> Any:
        configured = {"folder": str(state / "wandb"), "mode": "auto", "base_url": server.url}
        return a_tracker(
            "wandb", tracker_python, {**configured, **configuration},
            environment=environment, clock=HurriedClock(),
        )  # fmt: skip

    return make


@pytest.fixture
def sync(
    server: WandbStandIn, state: Path, tracker_python: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """Runs `training-cluster wandb sync` on that state; its exit code."""
    for name, value in {
        **WITH_KEY,
        "TRAINING_CLUSTER_STATE_DIR": str(state),
        "TRAINING_CLUSTER_TRACKING__ENVIRONMENT_DIR": str(tracker_python.parents[1]),
        "TRAINING_CLUSTER_TRACKING__WANDB_BASE_URL": server.url,
    }.items():
        monkeypatch.setenv(name, value)
    return partial(asyncio.to_thread, main, ["wandb", "sync"])


def assert_has_exactly(run: Run, lines: list[TrackedLine]) -> None:
    """Every row at its step, with the values and the time it was told with; none besides."""
    assert [row["_step"] for row in run.rows] == list(range(len(lines)))
    for row, line in zip(run.rows, lines, strict=True):
        told = {name: row[name] for name in row if not name.startswith("_")}
        step = {} if all("system/" in name for name in line.values) else {GLOBAL_STEP: line.step}
        assert told == {**line.values, **step}
        assert row["_timestamp"] == pytest.approx(line.time, abs=0.001)


GLOBAL_STEP = "train/global_step"


def config_of(run: Run) -> dict[str, Any]:
    """The configuration as people see it."""
    return {name: item["value"] for name, item in run.config.items() if name != "_wandb"}


def files_of(state: Path) -> list[Path]:
    """The offline files, in the order in which they began."""
    return sorted(state.glob("wandb/wandb/offline-run-*/*.wandb"), key=lambda f: f.stat().st_mtime)


async def test_a_run_arrives_point_for_point_with_all_that_belongs_to_it(
    server: WandbStandIn, tracker: Any, tmp_path: Path
) -> None:
    lines, card = some_lines(500), tmp_path / "card.md"
    card.write_text("a model")
    ending = an_ending(500, summary={"final_loss": 0.5}, artifacts={"model/README.md": card})
    async with tracker() as wandb:
        opened = await wandb.open(a_run(entity="lab"))
        assert await deliver(wandb, a_run(entity="lab"), lines, ending) == 1
    run = server.runs["job-1"]
    assert opened.url == f"{server.url}/lab/tests/runs/job-1"
    assert (opened.recorded, opened.warning) == (0, None)
    assert_has_exactly(run, lines)
    assert (run.entity, run.project, run.display_name) == ("lab", "tests", "run of job-1")
    config = config_of(run)
    assert (config["learning_rate"], config["resume"]) == (2e-5, None)
    assert config["training_cluster"] == {"job_id": "job-1", "user": "alice"}
    assert (run.tags, run.exit_code) == (["lab"], 0)
    assert (run.summary["status"], run.summary["final_loss"]) == ("completed", 0.5)
    assert run.bodies["model/README.md"] == b"a model"


async def test_a_run_that_is_opened_again_goes_on_where_the_server_is(
    server: WandbStandIn, tracker: Any
) -> None:
    lines = some_lines(60)
    async with tracker() as wandb:
        await deliver(wandb, a_run(), lines[:40], an_ending(40, status="cancelled"))
        assert (server.runs["job-1"].exit_code, server.runs["job-1"].tags[1:]) == (1, ["cancelled"])
        assert (await wandb.open(a_run())).recorded == 40
        await wandb.finish("job-1", an_ending(40, status="cancelled"))
        assert server.runs["job-1"].tags == ["lab", "cancelled"]
    async with tracker() as wandb:  # another worker, and a daemon that begins at the first line
        await wandb.open(a_run())
        await wandb.log("job-1", lines)
        await wandb.finish("job-1", an_ending(60))
    assert_has_exactly(server.runs["job-1"], lines)
    assert server.runs["job-1"].exit_code == 0


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.slow)])
async def test_kills_at_random_moments_lose_and_double_nothing_at_the_server(
    server: WandbStandIn, tracker: Any, state: Path, kills: int
) -> None:
    """Hit are the worker and wandb-core, while they start, record or upload."""
    lines, moments, had = some_lines(500), random.Random(kills), [0]
    async with tracker() as wandb:
        for number in range(kills):
            upto = 500 * (number + 1) // (kills + 1)
            ending = an_ending(upto, status="failed")
            work = asyncio.create_task(deliver(wandb, a_run(), lines[:upto], ending, batch=20))
            victims = await until(lambda: processes_of(state / "wandb"))
            await asyncio.sleep(moments.uniform(0.0, 1.5))
            with contextlib.suppress(ProcessLookupError):
                os.kill(moments.choice(processes_of(state / "wandb") or victims), signal.SIGKILL)
            await work
            had.append(len(server.runs["job-1"].rows))
        await deliver(wandb, a_run(), lines, an_ending(500))
    assert had == [500 * number // (kills + 1) for number in range(kills + 1)]
    assert_has_exactly(server.runs["job-1"], lines)
    assert server.runs["job-1"].exit_code == 0


@pytest.mark.parametrize("way", ["no answers", "no connections", "errors"])
async def test_a_server_that_is_away_for_some_seconds_misses_nothing(
    server: WandbStandIn, tracker: Any, way: str
) -> None:
    lines = some_lines(300)
    async with tracker() as wandb:
        await deliver(wandb, a_run(), lines[:100], an_ending(100))
        await wandb.open(a_run())
        await wandb.log("job-1", lines[100:200])
        go_away(server, way)
        await wandb.log("job-1", lines[200:])
        finishing = asyncio.create_task(wandb.finish("job-1", an_ending(300)))
        await asyncio.sleep(2)
        assert not finishing.done()
        come_back(server)
        await finishing
    assert_has_exactly(server.runs["job-1"], lines)


async def test_runs_that_wait_for_a_server_begin_when_it_is_there(
    server: WandbStandIn, tracker: Any
) -> None:
    server.stop()
    async with tracker() as wandb:
        with pytest.raises(TrackerUnavailable, match="does not answer"):
            await wandb.open(a_run())
        server.start()
        await deliver(wandb, a_run(), some_lines(5), an_ending(5))
    assert_has_exactly(server.runs["job-1"], some_lines(5))


async def test_lines_that_the_server_refused_on_the_way_are_asked_for_again(
    server: WandbStandIn, tracker: Any
) -> None:
    async with tracker(arrive_seconds=1) as wandb:
        await wandb.open(a_run())
        await wandb.log("job-1", some_lines(10))
        server.takes_no_lines = True
        with pytest.raises(TrackerUnavailable, match="0 of 10 lines"):
            await wandb.finish("job-1", an_ending(10))
        server.takes_no_lines = False
        await deliver(wandb, a_run(), some_lines(10), an_ending(10))
    assert_has_exactly(server.runs["job-1"], some_lines(10))


async def test_a_key_the_server_rejects_counts_as_none(
    server: WandbStandIn, tracker: Any, state: Path, sync: Any
) -> None:
    lines = some_lines(30)
    async with tracker(WRONG_KEY) as wandb:
        opened = await wandb.open(a_run())
        assert opened.url is None
        assert "user is not logged in" in opened.warning
        assert "wandb sync uploads it" in opened.warning
        await deliver(wandb, a_run(), lines, an_ending(30))
    assert not server.runs
    assert await sync() == 0
    assert_has_exactly(server.runs["job-1"], lines)


async def test_a_key_rejected_on_the_way_moves_the_run_to_files_and_sync_completes_it(
    server: WandbStandIn, tracker: Any, sync: Any
) -> None:
    lines = some_lines(60)
    async with tracker() as wandb:
        await deliver(wandb, a_run(), lines[:20], an_ending(20))
    async with tracker(WRONG_KEY) as wandb:
        await deliver(wandb, a_run(), lines, an_ending(60))
    assert len(server.runs["job-1"].rows) == 20
    assert await sync() == 0
    assert_has_exactly(server.runs["job-1"], lines)


async def test_where_online_is_wanted_a_rejected_key_means_waiting(
    server: WandbStandIn, tracker: Any, state: Path
) -> None:
    async with tracker(WRONG_KEY, mode="online") as wandb:
        with pytest.raises(TrackerUnavailable, match="user is not logged in"):
            await wandb.open(a_run())
    assert not files_of(state)


async def test_what_the_server_never_takes_is_refused_in_its_words(
    server: WandbStandIn, tracker: Any
) -> None:
    server.closed_projects.add("secret")
    async with tracker() as wandb:
        with pytest.raises(TrackerRefused, match="entity strangers not found"):
            await wandb.open(a_run(entity="strangers"))
        with pytest.raises(TrackerRefused, match="permission denied"):
            await wandb.open(a_run("job-401", project="secret"))
        await deliver(wandb, a_run(), some_lines(3), an_ending(3))  # others go on
    assert list(server.runs) == ["job-1"]


async def test_sync_uploads_a_run_whole_and_once(
    server: WandbStandIn, tracker: Any, sync: Any, tmp_path: Path
) -> None:
    lines, card = some_lines(500), tmp_path / "card.md"
    card.write_text("a model")
    summary = {"final_loss": 0.5}
    ending = an_ending(
        500, status="cancelled", message="by alice", summary=summary, artifacts={"m/card.md": card}
    )
    async with tracker({}) as wandb:
        await deliver(wandb, a_run(entity="lab"), lines, ending)
        await deliver(wandb, a_run("job-2"), some_lines(7), an_ending(7))
    assert await sync() == 0
    run = server.runs["job-1"]
    assert_has_exactly(run, lines)
    assert_has_exactly(server.runs["job-2"], some_lines(7))
    assert (run.entity, run.project, run.display_name) == ("lab", "tests", "run of job-1")
    assert config_of(run)["training_cluster"] == {"job_id": "job-1", "user": "alice"}
    assert config_of(run)["learning_rate"] == 2e-5
    assert (run.tags, run.exit_code) == (["lab", "cancelled"], 1)
    assert (run.summary["message"], run.summary["final_loss"]) == ("by alice", 0.5)
    assert run.bodies["m/card.md"] == b"a model"
    server.asked.clear()
    assert await sync() == 0
    assert not server.asked


async def test_a_run_in_several_torn_files_arrives_whole_and_undoubled(
    server: WandbStandIn, tracker: Any, state: Path, sync: Any
) -> None:
    lines = some_lines(400)
    async with tracker({}) as wandb:
        for _ in range(2):
            recorded = (await wandb.open(a_run())).recorded
            await wandb.log("job-1", lines[recorded : recorded + 150])
            await until(lambda: len(files_of(state)) and files_of(state)[-1].stat().st_size > 9999)
            os.kill(wandb.worker_pid, signal.SIGKILL)
            await until(lambda: not processes_of(state / "wandb"))
            file = files_of(state)[-1]
            os.truncate(file, file.stat().st_size - 5)
        await deliver(wandb, a_run(), lines, an_ending(400))
    empty = files_of(state)[0].parent.with_name("offline-run-20260101_000000-none")
    empty.mkdir()
    (empty / "run-none.wandb").touch()  # killed before it was written to
    assert len(files_of(state)) == 4
    assert await sync() == 0
    assert_has_exactly(server.runs["job-1"], lines)
    server.asked.clear()
    assert await sync() == 0
    assert not server.asked


async def test_a_sync_that_is_killed_is_taken_up_where_it_was(
    server: WandbStandIn, tracker: Any, state: Path, sync: Any
) -> None:
    lines = some_lines(300)
    async with tracker({}) as wandb:
        await deliver(wandb, a_run(), lines, an_ending(300))
    assert await sync() == 0
    run = server.runs["job-1"]
    run.history = {offset: row for offset, row in run.history.items() if offset < 120}
    run.summary = {"_step": 119}
    for mark in state.glob("wandb/wandb/*/*.synced"):
        mark.unlink()
    assert await sync() == 0
    assert_has_exactly(run, lines)


async def test_a_run_that_is_continued_after_a_sync_is_synced_again(
    server: WandbStandIn, tracker: Any, sync: Any
) -> None:
    lines = some_lines(80)
    async with tracker({}) as wandb:
        await deliver(wandb, a_run(), lines[:50], an_ending(50, status="failed"))
    assert await sync() == 0
    async with tracker({}) as wandb:
        await deliver(wandb, a_run(), lines, an_ending(80))
    assert await sync() == 0
    assert_has_exactly(server.runs["job-1"], lines)
    assert server.runs["job-1"].exit_code == 0


async def test_a_refused_run_is_left_and_does_not_keep_others_off(
    server: WandbStandIn, tracker: Any, state: Path, sync: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    async with tracker({}) as wandb:
        await deliver(wandb, a_run("a", entity="strangers"), some_lines(3), an_ending(3))
        await deliver(wandb, a_run("b"), some_lines(3), an_ending(3))
    assert await sync() == 1
    assert "entity strangers not found" in capfd.readouterr().err
    assert_has_exactly(server.runs["b"], some_lines(3))
    server.entities.add("strangers")
    assert await sync() == 0
    assert_has_exactly(server.runs["a"], some_lines(3))


def go_away(server: WandbStandIn, way: str) -> None:
    """The ways of not being there."""
    if way == "no connections":
        server.stop()
    server.mute = way == "no answers"
    server.status = 503 if way == "errors" else None


def come_back(server: WandbStandIn) -> None:
    server.stop()
    server.mute, server.status = False, None
    server.start()
