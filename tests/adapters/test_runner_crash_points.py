"""A runner that dies at a named point: its attempt is lost, ended and never launched again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.daemon_process import processes_in
from training_cluster.adapters.local_engine import LocalEngine
from training_cluster.crash_points import RUNNER_POINTS, VARIABLE
from training_cluster.domain.job import AttemptRef
from training_cluster.ports import Launch, Sighting

SCRIPT = "echo launched; setsid sleep 60 & exit 7"
SAID = {"runner.started": {""}, "runner.spawned": {"", "launched\n"}}  # swept before it speaks


def a_launch(directory: Path) -> Launch:
    directory.mkdir()
    return Launch(
        ref=AttemptRef("job", 1),
        directory=directory,
        argv=("/bin/sh", "-c", SCRIPT),
        environment={"PATH": os.defpath},
        grace_seconds=0.2,
    )


@pytest.mark.parametrize("point", sorted(RUNNER_POINTS))
async def test_a_runner_that_dies_leaves_nothing_and_is_not_followed_by_another(
    tmp_path, monkeypatch, point
):
    launch = a_launch(tmp_path / "attempt-1")
    monkeypatch.setenv(VARIABLE, point)
    first = LocalEngine()
    await first.open()
    await first.start(launch)
    ending = await first.wait(launch.directory)
    assert ending.code == (7 if point == "runner.told" else None)
    await first.close()
    monkeypatch.delenv(VARIABLE)
    second = LocalEngine()
    await second.open()
    assert await second.look(launch.directory) is Sighting.LOST
    await second.start(launch)
    assert (await second.wait(launch.directory)).code is None
    await second.close()
    assert (launch.directory / "trainer.log").read_text() in SAID.get(point, {"launched\n"})
    assert processes_in(launch.directory) == []
