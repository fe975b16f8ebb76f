"""Scenario: starting over, and reading from, a store with many finished jobs."""

from __future__ import annotations

import contextlib
import itertools
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import floor_app, servers
from benchmarks.bench import TRAIN, Bench
from benchmarks.client import Connection, get, one_by_one
from benchmarks.report import Figure, median
from benchmarks.servers import Server
from benchmarks.submitting import vars_of
from training_cluster.domain.ids import new_job_id
from training_cluster.domain.spec import JobSpec
from training_cluster.store.database import Database, connect

_FIRST_TIME = 1_767_225_600.0
_USERS = ("alice", "bob", "carol", "dave")
_JOB = """
INSERT INTO jobs (id, kind, state, user, spec, priority, gpus, min_memory_bytes, depends_on,
                  attempt_number, created_at, started_at, finished_at, progress, metrics,
                  error_code, error_message, error_hint, result, warnings)
VALUES (?, 'train', ?, ?, ?, 0, 1, 0, '[]', 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, '[]')"""
_ATTEMPT = """
INSERT INTO attempts (job_number, number, directory, created_at, started_at, ended_at, outcome,
                      exit_code)
VALUES (?, 1, ?, ?, ?, ?, ?, ?)"""
_LEASE = """
INSERT INTO leases (device_uuid, job_number, attempt_number, leased_at, released_at)
VALUES ('CPU-0', ?, 1, ?, ?)"""
_EVENT = """
INSERT INTO events (time, type, job_number, attempt_number, data) VALUES (?, ?, ?, ?, '{}')"""
_OUTCOMES = {"completed": "completed", "failed": "trainer_error", "cancelled": "cancelled"}
_ERROR = ("trainer_error", "the trainer ended with exit status 1", "Read the whole log.")
_PROGRESS = json.dumps({"step": 1500, "total_steps": 1500, "epoch": 3.0, "elapsed_seconds": 600.0})
_METRICS = json.dumps({"train/loss": 1.23, "train/learning_rate": 0.0, "eval/loss": 1.31})
_RESULT = json.dumps({"path": "/srv/output", "kind": "lora", "size_bytes": 18_000_000})


def run(bench: Bench) -> None:
    """Starts with an empty store, then everything with a full one."""
    jobs = bench.sizes.history
    bench.report.details["history_jobs"] = jobs
    bench.report.progress("starts with an empty store")
    floor = _floor_starts(bench)
    _starts(bench, "start_empty", floor)
    bench.report.progress(f"a store with {jobs} finished jobs")
    fill(bench.state_dir("history") / "queue.db", jobs)
    _starts(bench, "history", floor)
    _reads(bench)


def fill(path: Path, jobs: int) -> None:
    """Write finished jobs with their attempts, leases and events, as the daemon leaves them."""
    with contextlib.closing(Database(path)):
        pass  # makes the schema
    connection = connect(path)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("BEGIN")
    _insert(connection, jobs)
    connection.execute("COMMIT")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def _insert(connection: sqlite3.Connection, jobs: int) -> None:
    numbers = range(1, jobs + 1)
    spec = JobSpec(lora_name="initial-sft", tracking_backend="none").to_json()
    connection.executemany(_JOB, (_job(number, spec) for number in numbers))
    connection.executemany(_ATTEMPT, map(_attempt, numbers))
    leases = ((number, _begin(number), _begin(number) + 600) for number in numbers)
    connection.executemany(_LEASE, leases)
    connection.executemany(_EVENT, itertools.chain.from_iterable(map(_events, numbers)))


def _begin(number: int) -> float:
    return _FIRST_TIME + 60.0 * number


def _state(number: int) -> str:
    if number % 1000 == 0:
        return "cancelled"
    return "failed" if number % 10 == 0 else "completed"


def _job(number: int, spec: str) -> tuple[Any, ...]:
    begin, state = _begin(number), _state(number)
    error = _ERROR if state == "failed" else (None, None, None)
    times = (begin - 5, begin, begin + 600)
    reached = (_PROGRESS, _METRICS)
    result = _RESULT if state == "completed" else None
    user = _USERS[number % len(_USERS)]
    return (new_job_id(begin), state, user, spec, *times, *reached, *error, result)


def _attempt(number: int) -> tuple[Any, ...]:
    begin, state = _begin(number), _state(number)
    directory = f"/srv/training-cluster/jobs/{number}/attempt-1"
    code = 0 if state == "completed" else 1
    return (number, directory, begin - 1, begin, begin + 600, _OUTCOMES[state], code)


def _events(number: int) -> Iterator[tuple[Any, ...]]:
    begin = _begin(number)
    yield begin - 5, "job.queued", number, None
    yield begin - 1, "job.starting", number, 1
    yield begin, "job.started", number, 1
    yield begin + 600, f"job.{_state(number)}", number, 1


def _floor_starts(bench: Bench) -> float:
    """Until the minimal app's first answer; its table is as long as the history."""
    content = json.dumps({**TRAIN, "spec": JobSpec().to_json()})
    floor_app.prepare(str(bench.directory / "floor.db"), content, bench.sizes.history)
    times = []
    for _ in range(bench.sizes.starts):
        server = servers.floor_app(bench.directory)
        times.append(server.alive_ms)
        server.stop()
    return median(times)


def _starts(bench: Bench, name: str, floor: float) -> None:
    """Milliseconds from the spawn to the first answers, of /readyz and of a page of jobs."""
    ready, listed = [], []
    for _ in range(bench.sizes.starts):
        trainer = bench.trainer(name)
        with bench.daemon(name, trainer, 2) as daemon:
            connection = Connection(daemon.port)
            connection.ask(get("/readyz"))
            ready.append(daemon.age_ms())
            connection.ask(get("/train?limit=50"))
            listed.append(daemon.age_ms())
            bench.report.details[f"memory_{name}_fresh"] = vars_of(daemon.pid)
            connection.close()
    for what, times in (("ready", ready), ("listed", listed)):
        bench.report.add(
            Figure(
                name=f"{name}_{what}",
                value=median(times),
                unit="ms",
                target=1000,
                floor=floor,
                samples=len(times),
                rounds=tuple(times),
            )
        )


def _reads(bench: Bench) -> None:
    bench.report.progress("pages and single jobs")
    trainer = bench.trainer("history")
    with bench.daemon("history", trainer, 2) as daemon:
        deep = _deep_cursor(daemon, bench.sizes.history // 2)
        pages = {
            "page_first": "/train?limit=50",
            "page_deep": f"/train?limit=50&cursor={deep}",
            "page_completed": "/train?limit=50&status=completed",
            "page_failed_deep": f"/train?limit=50&status=failed&cursor={deep}",
            "page_of_a_user": "/train?limit=50&user=alice",
            "page_of_no_match": "/train?limit=50&status=running",
        }
        floor = one_by_one(bench.floor.port, [get("/rows")], bench.sizes.reads)
        for name, path in pages.items():
            times = one_by_one(daemon.port, [get(path)], bench.sizes.reads)
            bench.report.latency(f"history_{name}", times, p50=3.0, floor=floor)
        _single_jobs(bench, daemon)
        queue = one_by_one(daemon.port, [get("/queue")], bench.sizes.reads)
        bench.report.latency("history_queue", queue)
        bench.report.details["memory_history_after_reads"] = vars_of(daemon.pid)


def _single_jobs(bench: Bench, daemon: Server) -> None:
    count, jobs = bench.sizes.reads, bench.sizes.history
    ids = [job["job_id"] for job in _page(daemon, "/train?limit=100")["jobs"]]
    spread = [get(f"/train/{1 + index * 7919 % jobs}") for index in range(count)]
    rows = [get(f"/rows/{1 + index * 7919 % jobs}") for index in range(count)]
    floor = one_by_one(bench.floor.port, rows, count)
    by_id = one_by_one(daemon.port, [get(f"/train/{job_id}") for job_id in ids], count)
    bench.report.latency("history_job_by_id", by_id, p50=2.0, floor=floor)
    by_number = one_by_one(daemon.port, spread, count)
    bench.report.latency("history_job_by_number", by_number, p50=2.0, floor=floor)


def _deep_cursor(daemon: Server, depth: int) -> str:
    """The cursor behind `depth` jobs, found as a client finds it: page by page."""
    cursor = ""
    for _ in range(depth // 100):
        page = _page(daemon, f"/train?limit=100{cursor and f'&cursor={cursor}'}")
        cursor = page["next_cursor"]
    return cursor


def _page(daemon: Server, path: str) -> Any:
    connection = Connection(daemon.port)
    page = connection.ask(get(path))
    connection.close()
    return page
