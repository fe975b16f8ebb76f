"""Scenario: how fast a submission is acknowledged, by one client and by eight."""

from __future__ import annotations

import itertools
import time

from benchmarks import machine_floors, processes
from benchmarks.bench import FLOOR_SUBMIT, SUBMIT, Bench
from benchmarks.client import Connection, Load, all_at_once, get, one_by_one
from benchmarks.report import Figure, quantile
from benchmarks.servers import Server
from benchmarks.trainer import wait_until

_CLIENTS = 8
_SLOTS = 2


def run(bench: Bench) -> None:
    """Both slots are held, so that every job is queued; then once more with free slots."""
    bench.report.progress("submissions")
    _disk(bench)
    trainer = bench.trainer("submit")
    trainer.shut()
    with bench.daemon("submit", trainer, _SLOTS) as daemon:
        one_by_one(daemon.port, [SUBMIT], _SLOTS)
        wait_until(lambda: trainer.started == _SLOTS, 10, "both slots to be held")
        _one_client(bench, daemon)
        _eight_clients(bench, daemon)
        bench.report.details["memory_after_submissions"] = vars_of(daemon.pid)
    _free_slot(bench)


def _disk(bench: Bench) -> None:
    bench.report.latency("disk_fsync_4k", machine_floors.fsync_ms(bench.directory, 200))
    bench.report.latency("disk_sqlite_commit", machine_floors.commit_ms(bench.directory, 500))


def _one_client(bench: Bench, daemon: Server) -> None:
    one_by_one(daemon.port, [SUBMIT], 100)
    one_by_one(bench.floor.port, [FLOOR_SUBMIT], 100)
    ours, floor = [], []
    for _ in range(bench.sizes.rounds):  # in turns, so that noise hits both
        floor.append(one_by_one(bench.floor.port, [FLOOR_SUBMIT], bench.sizes.submits))
        ours.append(one_by_one(daemon.port, [SUBMIT], bench.sizes.submits))
    bench.report.latency(
        "submit_1_client",
        list(itertools.chain(*ours)),
        p50=2.0,
        p95=5.0,
        floor=list(itertools.chain(*floor)),
        rounds=tuple(quantile(each, 0.5) for each in ours),
    )
    paced = one_by_one(daemon.port, [SUBMIT], bench.sizes.started, 0.02)
    paced_floor = one_by_one(bench.floor.port, [FLOOR_SUBMIT], bench.sizes.started, 0.02)
    bench.report.latency("submit_after_20_ms_of_quiet", paced, floor=paced_floor)


def _eight_clients(bench: Bench, daemon: Server) -> None:
    ours, floor = [], []
    for _ in range(bench.sizes.rounds):
        seconds = bench.sizes.load_seconds
        floor.append(all_at_once(bench.floor.port, [FLOOR_SUBMIT], _CLIENTS, seconds))
        ours.append(all_at_once(daemon.port, [SUBMIT], _CLIENTS, seconds))
    latencies = [value for load in ours for value in load.latencies_ms]
    bench.report.latency(
        "submit_8_clients",
        latencies,
        floor=[value for load in floor for value in load.latencies_ms],
    )
    bench.report.add(
        Figure(
            name="submit_8_clients_rate",
            value=_rate(ours),
            unit="1/s",
            target=600,
            at_least=True,
            floor=_rate(floor),
            samples=len(latencies),
            rounds=tuple(load.rate for load in ours),
        )
    )
    client = all_at_once(bench.floor.port, [get("/healthz")], _CLIENTS, bench.sizes.load_seconds)
    bench.report.add(Figure(name="client_limit_8_clients", value=client.rate, unit="1/s"))


def _rate(loads: list[Load]) -> float:
    answers = sum(len(load.latencies_ms) for load in loads)
    return answers / sum(load.seconds for load in loads)


def _free_slot(bench: Bench) -> None:
    """Each job finds a free slot: the answer is `started`, with claim and launch under way."""
    trainer = bench.trainer("start")
    with bench.daemon("start", trainer, _SLOTS) as daemon:
        connection = Connection(daemon.port)
        _submit_and_see_it_end(connection)
        times = [_submit_and_see_it_end(connection) for _ in range(bench.sizes.started)]
        connection.close()
    bench.report.latency("submit_started_at_once", times)


def _submit_and_see_it_end(connection: Connection) -> float:
    before = time.perf_counter()
    answer = connection.ask(SUBMIT)
    milliseconds = (time.perf_counter() - before) * 1e3
    if answer["status"] != "started":
        raise RuntimeError(f"a slot was free, and the job was {answer['status']}: {answer}")
    job = get(f"/train/{answer['job_id']}")
    wait_until(
        lambda: connection.ask(job)["status"] in ("completed", "failed"), 10, "the job to end"
    )
    return milliseconds


def vars_of(pid: int) -> dict[str, float]:
    """The memory of a process, for the report's details."""
    found = processes.memory(pid)
    return {
        "resident_mb": found.resident_mb,
        "peak_mb": found.peak_mb,
        "proportional_mb": found.proportional_mb,
    }
