"""Thinning a curve out: fewer points, the same look."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training_cluster.services.downsample import Point, Thinner

values = st.floats(-1e6, 1e6)


def thinned(points: list[Point], most: int, count: int | None = None) -> tuple[list[Point], int]:
    thinner = Thinner(len(points) if count is None else count, most)
    for point in points:
        thinner.add(*point)
    return thinner.finish(), thinner.total


def curve(heights: list[float], stride: int = 1) -> list[Point]:
    return [(stride * n, 1e9 + n, height) for n, height in enumerate(heights)]


@given(st.lists(values, max_size=400), st.integers(3, 60), st.integers(1, 500))
def test_at_most_so_many_points_are_kept_in_order_and_the_ends_always(heights, most, stride):
    points = curve(heights, stride)
    kept, total = thinned(points, most)
    assert total == len(points)
    assert len(kept) == min(len(points), most)
    assert set(kept) <= set(points)
    assert all(a[0] < b[0] for a, b in itertools.pairwise(kept))
    if points:
        assert (kept[0], kept[-1]) == (points[0], points[-1])


@given(st.lists(values, max_size=50), st.integers(50, 100))
def test_a_curve_that_is_small_enough_is_kept_whole(heights, most):
    assert thinned(curve(heights), most)[0] == curve(heights)


@given(
    st.lists(st.tuples(st.integers(-5, 50), values), max_size=200),
    st.integers(3, 40),
    st.integers(0, 30),
)
def test_the_last_value_of_a_step_wins_and_steps_only_grow(logged, most, too_many):
    points = [(step, float(n), value) for n, (step, value) in enumerate(logged)]
    kept, total = thinned(points, most, len(points) + too_many)
    forward: dict[int, Point] = {}
    for point in points:
        if not forward or point[0] >= max(forward):
            forward[point[0]] = point
    assert total == len(forward)
    assert len(kept) <= most
    assert set(kept) <= set(forward.values())
    assert all(a[0] < b[0] for a, b in itertools.pairwise(kept))
    if forward:
        ends = list(forward.values())
        assert (kept[0], kept[-1]) == (ends[0], ends[-1])


@given(st.integers(1, 9998), st.booleans(), st.integers(20, 200))
def test_a_spike_is_never_lost(where, up, most):
    """A loss that jumps once in ten thousand steps is what people look for."""
    heights = [2.0 + math.sin(n / 500) / 10 for n in range(10_000)]
    heights[where] += 5 if up else -5
    kept, _ = thinned(curve(heights), most)
    assert where in [step for step, _, _ in kept]


def test_points_are_spread_over_the_whole_curve():
    kept, _ = thinned(curve([1 / (n + 1) for n in range(100_000)]), 100)
    gaps = [b[0] - a[0] for a, b in itertools.pairwise(kept)]
    assert max(gaps) <= 2 * 100_000 / 98 + 1


@pytest.mark.parametrize("height", [1e308, -1e308, 5e-324])
def test_values_at_the_edge_of_what_a_number_can_be_do_no_harm(height):
    kept, _ = thinned(curve([height, -height] * 50), 10)
    assert len(kept) == 10


def test_two_buckets_are_all_that_is_held_at_a_time():
    thinner = Thinner(100_000, 1000)
    held = 0
    for point in curve([float(n % 7) for n in range(100_000)]):
        thinner.add(*point)
        held = max(held, len(thinner._current) + len(thinner._following))
    assert held <= 2 * 101
    assert len(thinner.finish()) == 1000
