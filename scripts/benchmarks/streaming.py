"""Scenario: two hundred streams on one job, from a line written to a line received."""

from __future__ import annotations

import contextlib
import json
import random
import re
import selectors
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import processes, servers
from benchmarks.bench import TRAIN, Bench
from benchmarks.client import Connection, get, post
from benchmarks.report import Figure
from benchmarks.trainer import wait_until

_STREAMS = 200
_STEP = re.compile(rb'"(?:current_)?steps?":(\d+)')
_WARM_UP = 5


class Ears:
    """Open streams, and when each line came to each of them."""

    def __init__(self, port: int, path: str) -> None:
        self.heard: dict[int, list[float]] = defaultdict(list)
        self._selector = selectors.DefaultSelector()
        self._stop = threading.Event()
        self._sockets = [self._open(port, path) for _ in range(_STREAMS)]
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _open(self, port: int, path: str) -> socket.socket:
        opened = socket.create_connection(("127.0.0.1", port), 30)
        opened.sendall(get(path))
        head = b""
        while b"\r\n\r\n" not in head:
            head += opened.recv(1)
        self._selector.register(opened, selectors.EVENT_READ, bytearray())
        return opened

    def _listen(self) -> None:
        while not self._stop.is_set():
            for key, _ in self._selector.select(0.1):
                received: bytearray = key.data
                received += key.fileobj.recv(1 << 16)  # type: ignore[union-attr]
                now = time.perf_counter()
                end = received.rfind(b"\n\n") + 2
                if end > 1:
                    for step in _STEP.findall(received[:end]):
                        self.heard[int(step)].append(now)
                    del received[:end]

    def wait_for(self, step: int) -> None:
        """Return when every stream has had this line."""
        wait_until(lambda: len(self.heard[step]) == _STREAMS, 60, f"line {step}")

    def close(self) -> None:
        """Close the streams."""
        self._stop.set()
        self._thread.join()
        for opened in self._sockets:
            opened.close()


def run(bench: Bench) -> None:
    """The floor, the daemon, and the floor again."""
    bench.report.progress("200 streams on one job")
    lines = bench.sizes.streamed
    floors = [_floor(bench, lines)]
    trainer = bench.trainer("streams")
    trainer.shut()
    with bench.daemon("streams", trainer, 1) as daemon:
        log, path = _running_job(bench, daemon.port)
        before = processes.memory(daemon.pid).resident_mb
        ours = _measure(daemon.port, path, lines, log)
        growth = processes.memory(daemon.pid).resident_mb - before
    floors.append(_floor(bench, lines))
    for index, name in enumerate(("streams_line_to_reader", "streams_first_to_last_reader")):
        floor = [value for figures in floors for value in figures[index]]
        p95 = 250.0 if index == 0 else None
        bench.report.latency(name, ours[index], p95=p95, floor=floor)
    bench.report.add(
        Figure(name="streams_memory_growth", value=growth, unit="MB", target=20, samples=_STREAMS)
    )


def _running_job(bench: Bench, port: int) -> tuple[Callable[[int], None], str]:
    """A job whose trainer waits; how to write a line of its log, and where it is streamed."""
    connection = Connection(port)
    job = connection.ask(post("/train", TRAIN))["job_id"]
    config = bench.state_dir("streams") / "jobs" / job / "attempt-1" / "config.yaml"
    wait_until(config.exists, 10, "the attempt's config")
    folder = Path(json.loads(config.read_text())["output_dir"])
    folder.mkdir(parents=True, exist_ok=True)
    connection.close()

    def write(step: int) -> None:
        line = {"current_steps": step, "total_steps": 100_000, "loss": 1 / step}
        with (folder / "trainer_log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")

    return write, f"/train/{job}/metrics/stream"


def _floor(bench: Bench, lines: int) -> tuple[list[float], list[float]]:
    with _fan_out(bench.directory) as port:
        source = socket.create_connection(("127.0.0.1", port), 30)
        source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        source.sendall(b"POST / HTTP/1.1\r\n\r\n")

        def write(step: int) -> None:
            line = {"current_steps": step, "total_steps": 100_000, "loss": 1 / step}
            source.sendall(json.dumps(line, separators=(",", ":")).encode() + b"\n")

        return _measure(port, "/", lines, write)


@contextlib.contextmanager
def _fan_out(directory: Path) -> Iterator[int]:
    server = servers.fan_out(directory)
    try:
        yield server.port
    finally:
        server.stop()


def _measure(
    port: int, path: str, lines: int, write: Callable[[int], None]
) -> tuple[list[float], list[float]]:
    """Milliseconds from each line written to each reader, and from its first to its last."""
    ears, written = Ears(port, path), {}
    for step in range(1, lines + _WARM_UP + 1):
        # the log is looked at in steps of 100 ms: lines must not keep time with that
        time.sleep(random.uniform(0.05, 0.25))
        written[step] = time.perf_counter()
        write(step)
    ears.wait_for(step)
    ears.close()
    steps = [step for step in written if step > _WARM_UP]
    to_reader = [(heard - written[step]) * 1e3 for step in steps for heard in ears.heard[step]]
    apart = [(max(ears.heard[step]) - min(ears.heard[step])) * 1e3 for step in steps]
    return to_reader, apart
