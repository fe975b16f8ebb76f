"""Whatever happens in whatever order: no device twice, no attempt twice, nothing lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.daemon_process import ROOT
from tests.trust import Form, Promise

STEPS = 60


def live(runs: int, shards: int) -> dict[str, int]:
    """So many lives of the queue, in processes of their own; how many runs and steps they had."""
    each = [str(-(-runs // shards)), str(STEPS)]
    command = [sys.executable, "-m", "tests.services.invariant_shard", *each]
    started = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(shards)
    ]
    said = [process.communicate()[0].decode() for process in started]
    failed = [text for text, process in zip(said, started, strict=True) if process.returncode]
    assert not failed, failed[0]
    counts = [json.loads(text.splitlines()[-1]) for text in said]
    return {name: sum(count[name] for count in counts) for name in ("runs", "steps")}


def check(runs: int, trust, form: Form) -> None:
    done = live(runs, os.cpu_count() or 1)
    assert done["runs"] >= runs
    assert done["steps"] >= STEPS * runs
    lived = f"{done['runs']:,} runs, {done['steps']:,} steps (at most {STEPS} a run)"
    trust(Promise.INVARIANTS, f"{lived}: 0 violations", form=form)


def test_the_queue_keeps_its_invariants(trust):
    check(40, trust, "short")


@pytest.mark.slow
@pytest.mark.timeout(3 * 3600)
def test_the_queue_keeps_its_invariants_for_long(trust):
    check(20_000, trust, "full")
