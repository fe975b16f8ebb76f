"""Crash points are where their list says they are."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from training_cluster.crash_points import POINTS, RUNNER_POINTS, VARIABLE

PACKAGE = Path(__file__).parents[2] / "training_cluster"
PASS_TWICE = "from training_cluster.crash_points import *; crash_point('x'); crash_point('x')"


def test_each_crash_point_is_at_one_place_in_the_code():
    sources = (path.read_text() for path in PACKAGE.rglob("*.py"))
    found = [name for text in sources for name in re.findall(r'crash_point\("(.+?)"\)', text)]
    assert Counter(found) == dict.fromkeys(POINTS | RUNNER_POINTS, 1)


@pytest.mark.parametrize(
    ("wanted", "code"),
    [("x", -9), ("x:2", -9), ("x:3", 0), ("y", 0), ("", 0)],
)
def test_a_process_dies_at_its_point_the_nth_time_it_gets_there(wanted, code):
    command = [sys.executable, "-c", PASS_TWICE]
    ended = subprocess.run(command, env={VARIABLE: wanted}, cwd=PACKAGE.parent, check=False)
    assert ended.returncode == code
