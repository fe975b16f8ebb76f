"""The daemon may die at any instruction: kill -9 at every named point and at random ones."""

from __future__ import annotations

import random

import pytest

from tests.acceptance.kill_storm import AT_THE_START, Storm
from tests.trust import Form, Promise
from training_cluster.crash_points import POINTS

ONCE = sorted(point for point in POINTS if point.startswith("migration."))
AGAIN = sorted(POINTS.difference(ONCE))


def check(kills: int, tmp_path, trust, form: Form) -> None:
    """Kill at every point once and then on, as often at named points as at random moments."""
    storm = Storm(tmp_path, random.Random(kills))
    try:
        for point in ONCE:  # on the empty state directory: each daemon gets one step further
            storm.die_at(point)
        rounds = 0
        while storm.kills < kills or rounds < len(AGAIN):
            point = AGAIN[rounds % len(AGAIN)]
            first = rounds < len(AGAIN) or point.startswith(AT_THE_START)
            storm.die_at(point, 1 if first else storm.chance.randint(1, 3))
            rounds += 1
            while storm.kills < kills and storm.kills < 2 * len(storm.killed_at):
                storm.die_some_time()
        storm.finish()
        wrong = {kind: found for kind, found in storm.violations().items() if found}
        assert wrong == {}, f"{wrong}\nkilled at {storm.killed_at}"
        assert set(storm.killed_at) == POINTS
    finally:
        storm.close()
    trust(
        Promise.KILLS,
        f"{storm.kills} kills ({len(storm.killed_at)} at {len(POINTS)} named points), "
        f"{len(storm.asked)} jobs: 0 lost, 0 launched twice, 0 wrong exit codes, 0 leaked devices",
        form=form,
    )


@pytest.mark.timeout(900)
def test_a_daemon_that_dies_at_any_named_point_loses_nothing(tmp_path, trust):
    check(0, tmp_path, trust, "short")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_daemon_killed_two_hundred_times_loses_nothing(tmp_path, trust):
    check(200, tmp_path, trust, "full")
