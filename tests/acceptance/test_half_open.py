"""Connections that never finish a request end in time and disturb nobody meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from dataclasses import dataclass

import pytest

from tests.daemon_process import DaemonProcess, running_daemon
from tests.raw_http import talk
from tests.trust import Promise

HEAD = b"GET /train HTTP/1.1\r\nHost: localhost\r\n"
BODY = b"POST /train HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000\r\n\r\n{"
KINDS = (b"", b"GET /tr", HEAD, BODY)
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
STREAM = b"GET /events/stream HTTP/1.1\r\nHost: localhost\r\n\r\n"
MOST_HEALTH_SECONDS = 0.1


async def half_open(port: int, begun: bytes) -> float:
    """Begin a request and send a byte of it a second; seconds until the daemon closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    began = time.monotonic()
    writer.write(begun)
    trickling = asyncio.create_task(_trickle(writer, begun))
    with contextlib.suppress(ConnectionResetError):
        await reader.read()  # 408, where something was sent
    took = time.monotonic() - began
    trickling.cancel()
    writer.close()
    return took


async def _trickle(writer: asyncio.StreamWriter, begun: bytes) -> None:
    while begun and not writer.is_closing():
        await asyncio.sleep(1)
        writer.write(b" " if begun == BODY else b"x")


async def follow(port: int, connected: asyncio.Semaphore) -> bytes:
    """A stream of events until it tells of a job."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(STREAM)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    connected.release()
    told = await reader.readuntil(b"job.queued")
    writer.close()
    return told


def ask_health(port: int, enough: threading.Event) -> list[float]:
    """Over a connection of its own each time, until it is enough: the seconds each took. From a
    thread, so that what the other connections cost this process is not held against the daemon."""
    seconds = []
    while not enough.is_set():
        heard = talk(port, HEALTH)
        assert heard.status == 200
        seconds.append(heard.seconds)
        time.sleep(0.02)
    return seconds


@dataclass(frozen=True)
class Measured:
    """Seconds: of /healthz, and the longest life of a half-open connection."""

    health_median: float
    health_p99: float
    health_most: float
    life: float

    def __str__(self) -> str:
        return (
            f"/healthz p50 {self.health_median * 1e3:.0f} ms, p99 {self.health_p99 * 1e3:.0f} ms, "
            f"at most {self.health_most * 1e3:.0f} ms, half-open closed within "
            f"{self.life:.1f} s, all streams alive"
        )


async def measure(daemon: DaemonProcess, count: int, streams: int) -> Measured:
    """Half-open connections beside streams, and what /healthz takes meanwhile."""
    connected, enough = asyncio.Semaphore(0), threading.Event()
    following = [asyncio.create_task(follow(daemon.port, connected)) for _ in range(streams)]
    for _ in range(streams):
        await connected.acquire()
    asking = asyncio.create_task(asyncio.to_thread(ask_health, daemon.port, enough))
    lives = await asyncio.gather(
        *(half_open(daemon.port, KINDS[number % len(KINDS)]) for number in range(count))
    )
    enough.set()
    asked = await asking
    assert not any(task.done() for task in following), "streams live on"
    await asyncio.to_thread(daemon.submit)
    async with asyncio.timeout(10):
        await asyncio.gather(*following)
    asked.sort()
    median, p99 = (asked[int(share * len(asked))] for share in (0.5, 0.99))
    found = Measured(median, p99, asked[-1], max(lives))
    print(f"{len(asked)} x /healthz beside {count} half-open, {streams} streams: {found}")
    return found


async def test_half_open_connections_end_soon_and_disturb_nobody(tmp_path, trust):
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": "/bin/true",
        "TRAINING_CLUSTER_LIMITS__HEAD_SECONDS": "1",
        "TRAINING_CLUSTER_LIMITS__BODY_SECONDS": "1.5",
    }
    with running_daemon(tmp_path / "state", environment) as daemon:
        found = await measure(daemon, 100, 50)
    assert found.health_median < MOST_HEALTH_SECONDS, "one of 67 may meet a busy machine"
    assert found.life < 5
    trust(Promise.HALF_OPEN, f"100 half-open, 50 SSE: {found}", form="short")


@pytest.mark.slow
async def test_five_hundred_half_open_connections_end_within_twenty_seconds(quick_daemon, trust):
    found = await measure(quick_daemon, 500, 200)
    assert found.health_p99 < MOST_HEALTH_SECONDS
    assert found.life < 20
    trust(Promise.HALF_OPEN, f"500 half-open, 200 SSE: {found}", form="full")
