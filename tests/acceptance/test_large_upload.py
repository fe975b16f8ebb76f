"""Five gigabytes are handed in about as fast as they are copied, and the daemon stays small."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from tests.acceptance.test_uploads import QUICK, begin, read_growth
from tests.daemon_process import DaemonProcess, running_daemon
from tests.trust import Promise

SIZE = 5 << 30
SHARE = 0.7
MOST_GROWTH = 50_000_000
ROUNDS = 2
BLOCK = (b'{"text": "' + b"a row as long as many are " * 40 + b'"}\n') * 1000


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "source.jsonl"
    with path.open("wb") as file:
        while file.tell() < SIZE:
            file.write(BLOCK)
    os.sync()
    yield path
    path.unlink()


def copied(source: Path) -> float:
    """Seconds of a plain copy of the file, on the disk in the end as the upload is."""
    target = source.with_name("copy.jsonl")
    words = ("dd", f"if={source}", f"of={target}", "bs=1M", "conv=fsync", "status=none")
    begun = time.monotonic()
    subprocess.run(words, check=True)
    seconds = time.monotonic() - begun
    target.unlink()
    return seconds


def uploaded(daemon: DaemonProcess, source: Path) -> float:
    """Seconds from the first byte to the answer that the dataset is there; it is gone then."""
    size = source.stat().st_size
    place = urlsplit(begin(daemon, size=size))
    head = (
        f"PUT {place.path}?{place.query} HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Length: {size}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", daemon.port)) as line, source.open("rb") as file:
        begun = time.monotonic()
        line.sendall(head.encode())
        line.sendfile(file)
        answered = line.recv(65536)
        seconds = time.monotonic() - begun
    assert answered.startswith(b"HTTP/1.1 201 "), answered[:500]
    gone = daemon.client.delete(f"/datasets/{place.path.rpartition('/')[2]}")
    assert gone.status_code == 200, gone.text
    return seconds


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_five_gigabytes_come_at_the_speed_of_a_copy(tmp_path, source, trust):
    """Copies and uploads take turns; what is compared is their sums, so that a disk that is busy
    with something else for a while is so for both."""
    with running_daemon(tmp_path / "state", QUICK) as daemon:
        uploaded_small(daemon, tmp_path)
        assert daemon.process is not None
        before = read_growth(daemon.process.pid)
        copies, uploads = 0.0, 0.0
        for _ in range(ROUNDS):
            copies += copied(source)
            uploads += uploaded(daemon, source)
        grown = read_growth(daemon.process.pid) - before
    size, share = source.stat().st_size * ROUNDS, copies / uploads
    said = (
        f"{ROUNDS} x 5 GiB: uploads {size / uploads / 1e6:.0f} MB/s, `dd conv=fsync` of the same "
        f"{size / copies / 1e6:.0f} MB/s ({100 * share:.0f} %), daemon grew {grown / 1e6:.1f} MB"
    )
    print(f"{said}; load {psutil.getloadavg()[0]:.1f}")
    assert share > SHARE, said
    assert grown < MOST_GROWTH, said
    trust(Promise.UPLOADS, said, form="full")


def uploaded_small(daemon: DaemonProcess, folder: Path) -> None:
    """One upload whose size does not matter, for all that is loaded with the first."""
    path = folder / "small.jsonl"
    path.write_bytes(BLOCK * 4)
    uploaded(daemon, path)
