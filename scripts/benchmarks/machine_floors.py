"""Floors no daemon can go below: a durable write, and processes in a row from one event loop."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import time
from pathlib import Path

from benchmarks.floor_app import connect
from benchmarks.trainer import Run, Trainer


def fsync_ms(directory: Path, count: int) -> list[float]:
    """Milliseconds of an append of 4 KiB and its fsync."""
    times = []
    descriptor = os.open(directory / "fsync", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for _ in range(count):
        before = time.perf_counter_ns()
        os.write(descriptor, b"x" * 4096)
        os.fsync(descriptor)
        times.append((time.perf_counter_ns() - before) / 1e6)
    os.close(descriptor)
    return times


def commit_ms(directory: Path, count: int) -> list[float]:
    """Milliseconds of one row in one commit, WAL and FULL."""
    connection: sqlite3.Connection = connect(str(directory / "commit.db"))
    times = []
    for _ in range(count):
        before = time.perf_counter_ns()
        connection.execute("INSERT INTO rows (content) VALUES ('x')")
        times.append((time.perf_counter_ns() - before) / 1e6)
    connection.close()
    return times


def popen_runs(trainer: Trainer, jobs: int) -> list[Run]:
    """Run the trainer `jobs` times, one after another, by pidfd and Popen in an asyncio loop."""
    asyncio.run(_one_after_another(trainer.command, jobs))
    return trainer.runs()


def popen_rate(trainer: Trainer, jobs: int, slots: int) -> float:
    """Runs a second when `slots` of them run at a time."""

    async def run() -> None:
        each = [_one_after_another(trainer.command, jobs // slots) for _ in range(slots)]
        await asyncio.gather(*each)

    before = time.perf_counter()
    asyncio.run(run())
    return jobs / (time.perf_counter() - before)


async def _one_after_another(command: list[str], jobs: int) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(jobs):
        child = subprocess.Popen(command)
        pidfd = os.pidfd_open(child.pid)
        ended: asyncio.Future[None] = loop.create_future()
        loop.add_reader(pidfd, ended.set_result, None)
        await ended
        loop.remove_reader(pidfd)
        os.close(pidfd)
        child.wait()
