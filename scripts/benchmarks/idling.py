"""Scenario: what the daemon costs when there is nothing to do, and while one job runs."""

from __future__ import annotations

import contextlib
import time

from benchmarks import processes
from benchmarks.bench import SUBMIT, Bench
from benchmarks.client import get, one_by_one
from benchmarks.processes import Activity, Memory
from benchmarks.report import Figure
from benchmarks.servers import Server
from benchmarks.trainer import wait_until

_SETTLE_SECONDS = 2.0
_IDLE_PERCENT = 0.3
_RESIDENT_MB = 75.0


def run(bench: Bench) -> None:
    """Side by side: an idle daemon, one with a running job, one with a history, the floor."""
    bench.report.progress("idling")
    with contextlib.ExitStack() as stack:
        idle = stack.enter_context(bench.daemon("idle", bench.trainer("idle"), 2))
        one_by_one(idle.port, [get("/train"), get("/queue"), get("/")], 30)
        busy = _with_a_running_job(bench, stack)
        observed = {"idle": idle, "running_1_job": busy, "floor": bench.floor}
        if (bench.state_dir("history") / "queue.db").exists():
            trainer = bench.trainer("history")
            observed["history"] = stack.enter_context(bench.daemon("history", trainer, 2))
        _measure(bench, {name: server.pid for name, server in observed.items()})
        _memory(bench, idle)


def _with_a_running_job(bench: Bench, stack: contextlib.ExitStack) -> Server:
    trainer = bench.trainer("busy")
    trainer.shut()
    server = stack.enter_context(bench.daemon("busy", trainer, 2))
    one_by_one(server.port, [SUBMIT], 1)
    wait_until(lambda: trainer.started == 1, 10, "the job to run")
    return server


def _measure(bench: Bench, pids: dict[str, int]) -> None:
    pids["fork_server"] = processes.fork_server(pids["idle"])
    time.sleep(_SETTLE_SECONDS)  # what has just been asked of them is over
    before = {name: processes.activity(pid) for name, pid in pids.items()}
    time.sleep(bench.sizes.idle_seconds)
    used = {name: _used(pid, before[name]) for name, pid in pids.items()}
    floor_cpu, floor_wakeups = used.pop("floor")
    for name, (percent, wakeups) in used.items():
        has_floor = name != "fork_server"
        bench.report.add(
            Figure(
                name=f"cpu_{name}",
                value=percent,
                unit="%",
                target=_IDLE_PERCENT,
                floor=floor_cpu if has_floor else None,
            )
        )
        bench.report.add(
            Figure(
                name=f"wakeups_{name}",
                value=wakeups,
                unit="1/s",
                floor=floor_wakeups if has_floor else None,
            )
        )


def _used(pid: int, before: Activity) -> tuple[float, float]:
    return processes.activity(pid).since(before)


def _memory(bench: Bench, idle: Server) -> None:
    """The most any daemon of this run has had, and the fork server beside it."""
    floor = processes.memory(bench.floor.pid)
    fork_server = processes.memory(processes.fork_server(idle.pid))
    fresh = processes.memory(idle.pid)
    _add(bench, "memory_fresh", fresh, floor)
    known = [d["peak_mb"] for name, d in bench.report.details.items() if name.startswith("memory_")]
    bench.report.add(
        Figure(
            name="memory_peak_of_all_scenarios",
            value=max([fresh.peak_mb, *known]),
            unit="MB",
            target=_RESIDENT_MB,
            floor=floor.peak_mb,
        )
    )
    bench.report.add(Figure(name="memory_fork_server", value=fork_server.resident_mb, unit="MB"))
    bench.report.add(
        Figure(name="memory_fork_server_share", value=fork_server.proportional_mb, unit="MB")
    )


def _add(bench: Bench, name: str, found: Memory, floor: Memory) -> None:
    bench.report.add(
        Figure(
            name=name,
            value=found.resident_mb,
            unit="MB",
            target=_RESIDENT_MB,
            floor=floor.resident_mb,
        )
    )
