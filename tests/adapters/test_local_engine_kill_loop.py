"""The daemon's process is killed again and again: no attempt is lost, doubled or misreported."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from training_cluster.adapters.local_engine.processes import MARKER
from training_cluster.crash_points import POINTS, VARIABLE

HOST = Path(__file__).with_name("engine_host.py")
OF_THE_ENGINE = re.compile(r"(stage|start)\.|end\.told")
CRASH_POINTS = sorted(filter(OF_THE_ENGINE.match, POINTS))
SCRIPT = 'echo launched; sleep "$1"; exit "$2"'


@dataclass
class KillLoop:
    """Attempts under `root`, seen through by hosts that do not live long."""

    root: Path
    chance: random.Random
    codes: dict[Path, int] = field(default_factory=dict)
    kills: int = 0

    def submit(self, count: int) -> None:
        for _ in range(count):
            directory = self.root / f"attempt-{len(self.codes)}"
            directory.mkdir()
            code = self.codes[directory] = len(self.codes) % 120
            seconds = f"{self.chance.uniform(0, 0.4):.3f}"
            argv = ["/bin/sh", "-c", SCRIPT, "trainer", seconds, str(code)]
            want = {"argv": argv, "staged": self.chance.random() < 0.5}
            (directory / "want.tmp").write_text(json.dumps(want))
            (directory / "want.tmp").rename(directory / "want.json")

    def round(self) -> None:
        """One host: killed at a named point, or some time after it is up."""
        self.submit(self.chance.randint(1, 3))
        point = self.chance.choice([*CRASH_POINTS, *[None] * len(CRASH_POINTS)])
        command = [sys.executable, str(HOST), str(self.root)]
        environment = {**os.environ, VARIABLE: point or ""}
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as host:
            assert host.stdout is not None
            host.stdout.readline()
            try:
                host.wait(10 if point else self.chance.uniform(0, 0.15))
            except subprocess.TimeoutExpired:
                host.kill()
        self.kills += host.returncode == -9

    def finish(self) -> None:
        command = [sys.executable, str(HOST), str(self.root)]
        assert subprocess.run(command, timeout=60, check=False).returncode == 0

    def report(self) -> dict[str, int]:
        """What went wrong, counted."""
        done = {path: path / "done.json" for path in self.codes}
        ended = {p: json.loads(d.read_text())["code"] for p, d in done.items() if d.exists()}
        logs = [(path / "trainer.log").read_text() for path in self.codes]
        return {
            "lost": sum(ended.get(path) is None for path in self.codes),
            "launched twice": sum(log != "launched\n" for log in logs),
            "wrong exit codes": sum(ended.get(path) != code for path, code in self.codes.items()),
            "leftover processes": leftovers(self.root),
        }


def leftovers(root: Path) -> int:
    marker, count = os.fsencode(f"{MARKER}={root}"), 0
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            count += marker in path.read_bytes()
        except OSError:
            continue
    return count


@pytest.mark.parametrize(
    "kills", [20, pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)
def test_a_daemon_killed_at_any_moment_costs_no_attempt(tmp_path: Path, kills: int) -> None:
    loop = KillLoop(tmp_path, random.Random(kills))
    started_at = time.monotonic()
    while loop.kills < kills:
        loop.round()
    loop.finish()
    print(f"{kills} kills, {len(loop.codes)} attempts, {time.monotonic() - started_at:.0f} s")
    assert set(loop.report().values()) == {0}, loop.report()
