"""Scenario: a dataset is handed in over loopback, beside a plain copy of the same bytes."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path

from benchmarks import processes
from benchmarks.bench import Bench
from benchmarks.client import Connection, post
from benchmarks.report import Figure
from benchmarks.servers import Server

_MIB = 1 << 20
_SHARE = 0.7
_MOST_GROWTH_MB = 50.0
_LINE = b'{"text": "' + b"a row as long as many are " * 40 + b'"}\n'
_ROUNDS = 2


def run(bench: Bench) -> None:
    """Both end on the disk: the copy with a flush, the upload with its answer. They take turns."""
    bench.report.progress("uploading")
    source = _source(bench.directory / "upload.jsonl", bench.sizes.uploaded_mib * _MIB)
    size = source.stat().st_size
    copied, uploaded = [], []
    with bench.daemon("uploads", bench.trainer("uploads"), 1) as daemon:
        before = processes.memory(daemon.pid).peak_mb
        for _ in range(_ROUNDS):
            copied.append(size / 1e6 / _copy(source))
            uploaded.append(size / 1e6 / _upload(daemon, source, size))
        grown = processes.memory(daemon.pid).peak_mb - before
    source.unlink()
    floor = max(copied)
    bench.report.add(
        Figure(
            name="upload_rate",
            value=max(uploaded),
            unit="MB/s",
            target=_SHARE * floor,
            at_least=True,
            floor=floor,
            samples=_ROUNDS,
            rounds=tuple(uploaded),
        )
    )
    bench.report.add(Figure(name="upload_growth", value=grown, unit="MB", target=_MOST_GROWTH_MB))


def _source(path: Path, size: int) -> Path:
    block = _LINE * (_MIB // len(_LINE))
    with path.open("wb") as file:
        while file.tell() < size:
            file.write(block)
    return path


def _copy(source: Path) -> float:
    """Seconds of a plain copy that is on the disk in the end."""
    target = source.with_suffix(".copy")
    words = ("dd", f"if={source}", f"of={target}", "bs=1M", "conv=fsync", "status=none")
    begun = time.perf_counter()
    subprocess.run(words, check=True)
    seconds = time.perf_counter() - begun
    target.unlink()
    return seconds


def _upload(daemon: Server, source: Path, size: int) -> float:
    """Seconds from the first byte to the answer that the dataset is there."""
    connection = Connection(daemon.port)
    made = connection.ask(post("/uploads", {"size": size}))
    connection.close()
    path = f"/uploads/{made['upload_id']}"
    head = f"PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", daemon.port)) as line, source.open("rb") as file:
        begun = time.perf_counter()
        line.sendall(head.encode())
        line.sendfile(file)
        answered = line.recv(65536)
        seconds = time.perf_counter() - begun
    if b" 201 " not in answered[:20]:
        raise RuntimeError(f"the upload was answered by {answered[:200]!r}")
    gone = Connection(daemon.port)
    gone.ask(f"DELETE /datasets/{made['upload_id']} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    gone.close()
    return seconds
