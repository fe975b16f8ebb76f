"""Hundreds of streams on one job: all hear everything, the daemon stays small and ends in time."""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from tests.daemon_process import DaemonProcess, eventually, running_daemon, trainer
from tests.streams import stream

STREAMS = 200


class Log:
    """A trainer's log, written by the test while the trainer waits."""

    def __init__(self, daemon: DaemonProcess, job: str) -> None:
        config = daemon.attempt_dir(job) / "config.yaml"
        eventually(config.exists)
        folder = Path(json.loads(config.read_text())["output_dir"])
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "trainer_log.jsonl"
        self.written_at: dict[int, float] = {}

    def write(self, step: int) -> None:
        """One more line; remembers when."""
        line = {"current_steps": step, "total_steps": 100_000, "loss": 1 / step}
        with self._path.open("a") as log:
            log.write(json.dumps(line) + "\n")
        self.written_at[step] = time.perf_counter()


class Listener:
    """A `curl -N` of few lines; remembers when each step came."""

    def __init__(self, port: int, path: str) -> None:
        self._port, self._path = port, path
        self.heard_at: dict[int, float] = {}
        self.steps: list[int] = []
        self.ended = False

    async def listen(self, connected: asyncio.Event) -> None:
        """Until the stream ends."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(f"GET {self._path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        connected.set()
        while text := await reader.readline():
            if text.startswith(b"event: end"):
                self.ended = True
            elif text.startswith(b'data: {"sequence"'):
                line = json.loads(text[6:])
                if line["source"] == "trainer":
                    self.steps.append(line["step"])
                    self.heard_at[line["step"]] = time.perf_counter()
        writer.close()


@asynccontextmanager
async def listening(daemon: DaemonProcess, path: str) -> AsyncIterator[list[Listener]]:
    """So many open streams; at the end of the block they must end by themselves."""
    listeners = [Listener(daemon.port, path) for _ in range(STREAMS)]
    connected = [asyncio.Event() for _ in listeners]
    tasks = [
        asyncio.create_task(listener.listen(event))
        for listener, event in zip(listeners, connected, strict=True)
    ]
    await asyncio.gather(*(event.wait() for event in connected))
    yield listeners
    async with asyncio.timeout(20):
        await asyncio.gather(*tasks)


async def have_heard(listeners: list[Listener], step: int) -> None:
    async with asyncio.timeout(30):
        while not all(listener.steps and listener.steps[-1] == step for listener in listeners):
            await asyncio.sleep(0.02)


def resident_mb(daemon: DaemonProcess) -> float:
    assert daemon.process is not None
    return float(psutil.Process(daemon.process.pid).memory_info().rss) / 1e6


def latencies_ms(log: Log, listeners: list[Listener]) -> list[float]:
    return sorted(
        (listener.heard_at[step] - written) * 1e3
        for listener in listeners
        for step, written in log.written_at.items()
    )


async def measure(daemon: DaemonProcess, record: Path, lines: int) -> tuple[float, float]:
    """Two hundred streams hear every line of a job; 95th percentile of the milliseconds from a
    line written to a line heard, and the MB the daemon has grown by."""
    job = daemon.submit()["job_id"]
    daemon.wait_for(job, "running")
    log = Log(daemon, job)
    before = resident_mb(daemon)
    async with listening(daemon, f"/train/{job}/metrics/stream") as listeners:
        for step in range(1, lines + 1):
            log.write(step)
            await asyncio.sleep(random.uniform(0.02, 0.12))
        await have_heard(listeners, lines)
        growth = resident_mb(daemon) - before
        (record / "release").touch()
    assert all(listener.ended for listener in listeners)
    assert {tuple(listener.steps) for listener in listeners} == {tuple(range(1, lines + 1))}
    found = latencies_ms(log, listeners)
    p95 = found[int(0.95 * len(found))]
    print(f"{STREAMS} streams, {lines} lines: p50 {statistics.median(found):.0f} ms, "
          f"p95 {p95:.0f} ms, growth {growth:.1f} MB")  # fmt: skip
    return p95, growth


async def test_two_hundred_streams_hear_every_line_in_order_and_the_end(held_daemon, record):
    await measure(held_daemon, record, 20)


@pytest.mark.slow
async def test_two_hundred_streams_hear_of_a_line_within_a_quarter_of_a_second(held_daemon, record):
    p95, growth = await measure(held_daemon, record, 300)
    assert p95 < 250
    assert growth < 20


async def test_a_daemon_with_open_streams_ends_within_three_seconds(held_daemon):
    job = held_daemon.submit()["job_id"]
    held_daemon.wait_for(job, "running")
    log = Log(held_daemon, job)
    async with listening(held_daemon, f"/train/{job}/metrics/stream") as listeners:
        log.write(1)
        await have_heard(listeners, 1)
        began = time.monotonic()
        assert await asyncio.to_thread(held_daemon.stop) == 0
        took = time.monotonic() - began
    assert took < 3, "the daemon's own limit for connections that stay open"
    assert not any(listener.ended for listener in listeners), "the job goes on: come back"


async def test_every_kind_of_stream_lets_the_daemon_end(held_daemon):
    job = held_daemon.submit()["job_id"]
    held_daemon.wait_for(job, "running")
    async with listening(held_daemon, "/events/stream"):
        began = time.monotonic()
        assert await asyncio.to_thread(held_daemon.stop) == 0
        assert time.monotonic() - began < 3


def test_a_stream_goes_on_behind_a_kill_without_loss_or_repeat(tmp_path):
    environment = {"TRAINING_CLUSTER_TRAINER__COMMAND": trainer("stepping", 120, 0.05)}
    with running_daemon(tmp_path / "state", environment) as daemon:
        job = daemon.submit()["job_id"]
        path, last, steps = f"/train/{job}/metrics/stream", "", []
        for heard in (5, 20, 1000):
            for told in stream(daemon, path, last_id=last):
                if told.event == "end":
                    break
                last = told.id or last
                if told.data.get("source") == "trainer":
                    steps.append(told.data["step"])
                if len(steps) == heard:
                    daemon.kill()
                    daemon.start()
                    break
        assert steps == list(range(1, 121))
