"""Scenario: how long a slot is idle between two jobs, and how many jobs pass through two slots."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import machine_floors
from benchmarks.bench import SUBMIT, Bench
from benchmarks.client import one_by_one
from benchmarks.report import Figure, quantile
from benchmarks.trainer import Run, gaps_ms

_JOB_SECONDS = 0.1
_ATTEMPTS = """
SELECT directory, created_at, started_at, ended_at FROM attempts ORDER BY created_at"""
_DRAINED = """
SELECT max(a.ended_at) AS last, count(*) AS jobs FROM attempts a
WHERE a.ended_at IS NOT NULL AND a.created_at > ?"""
_STATES = "SELECT state, sum(jobs) AS jobs FROM job_counts GROUP BY state HAVING sum(jobs) > 0"


def run(bench: Bench) -> None:
    """One slot for the gaps, two for the throughput."""
    bench.report.progress("idle gap between jobs of 100 ms")
    _gap(bench, "gap_after_100_ms", _JOB_SECONDS, bench.sizes.gaps, p50=5.0)
    bench.report.progress("idle gap between jobs of 0 ms")
    _gap(bench, "gap_after_0_ms", 0.0, bench.sizes.short_gaps)
    bench.report.progress("jobs through two slots")
    _throughput(bench)


def _gap(bench: Bench, name: str, seconds: float, jobs: int, p50: float | None = None) -> None:
    floors = [_floor_gaps(bench, f"{name}-floor-1", seconds, jobs)]
    trainer = bench.trainer(name, seconds)
    trainer.shut()
    with bench.daemon(name, trainer, 1) as daemon:
        one_by_one(daemon.port, [SUBMIT], jobs + 1)
        trainer.open()
        trainer.wait_for(jobs + 1, 30 + jobs * (seconds + 0.2))
        bench.wait_finished(name, jobs + 1, 30)
        attempts = bench.database(name).execute(_ATTEMPTS).fetchall()
    floors.append(_floor_gaps(bench, f"{name}-floor-2", seconds, jobs))
    runs = trainer.runs()
    floor = [gap for gaps in floors for gap in gaps]
    bench.report.latency(name, gaps_ms(runs), p50=p50, floor=floor)
    bench.report.details[f"{name}_phases_p50_ms"] = _phases(runs, attempts)


def _floor_gaps(bench: Bench, name: str, seconds: float, jobs: int) -> list[float]:
    runs = machine_floors.popen_runs(bench.trainer(name, seconds), jobs // 2 + 1)
    return gaps_ms(runs)


def _phases(runs: list[Run], attempts: list[Any]) -> dict[str, float]:
    """Where the gap goes: medians of its parts, from the runner's and the store's times."""
    exits = [json.loads(Path(row["directory"], "exit.json").read_text()) for row in attempts]
    boot = time.time_ns() - time.monotonic_ns()
    parts = [
        _parts(runs[i : i + 2], exits[i : i + 2], attempts[i : i + 2], boot)
        for i in range(len(runs) - 1)
    ]
    return {name: quantile([part[name] for part in parts], 0.5) for name in parts[0]}


def _parts(
    runs: list[Run], exits: list[Mapping[str, Any]], attempts: list[Any], boot_ns: int
) -> dict[str, float]:
    ended = attempts[0]["ended_at"] * 1e9 - boot_ns
    claimed = attempts[1]["created_at"] * 1e9 - boot_ns
    moments = {
        "trainer_ends": float(runs[0].end_ns),
        "runner_reaps_it": float(exits[0]["ended_monotonic_ns"]),
        "daemon_has_judged": ended,
        "end_is_stored_next_is_claimed": claimed,
        "runner_has_spawned": float(exits[1]["spawned_monotonic_ns"]),
        "trainer_is_in_main": float(runs[1].start_ns),
    }
    times = list(moments.values())
    steps = zip(list(moments)[1:], times, times[1:], strict=False)
    return {name: (after - before) / 1e6 for name, before, after in steps}


def _throughput(bench: Bench) -> None:
    jobs, slots = bench.sizes.drained, 2
    floor = machine_floors.popen_rate(bench.trainer("drain-floor"), jobs, slots)
    trainer = bench.trainer("drain")
    trainer.shut()
    with bench.daemon("drain", trainer, slots) as daemon:
        one_by_one(daemon.port, [SUBMIT], jobs + slots)
        opened, cpu_ms = time.time(), _cpu_ms(daemon.pid)
        trainer.open()
        bench.wait_finished("drain", jobs + slots, 60 + jobs / 5)
        store = bench.database("drain")
        last, passed = store.execute(_DRAINED, (opened,)).fetchone()
        bench.report.details["drained_states"] = dict(map(tuple, store.execute(_STATES)))
        bench.report.details["drain_daemon_cpu_ms_per_job"] = (
            _cpu_ms(daemon.pid) - cpu_ms
        ) / passed
    bench.report.add(
        Figure(
            name="jobs_through_2_slots",
            value=passed / (last - opened),
            unit="1/s",
            target=100,
            at_least=True,
            floor=floor,
            samples=passed,
        )
    )


def _cpu_ms(pid: int) -> float:
    return time.clock_gettime_ns((~pid << 3) | 2) / 1e6
