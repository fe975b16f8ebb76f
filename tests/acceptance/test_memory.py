"""The daemon stays as large as it is, whatever jobs print and however many there are."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psutil
import pytest

from tests.daemon_process import DaemonProcess, eventually, running_daemon, trainer
from tests.trust import Promise

MOST_MB = 20
PIECE = 4 << 20


def resident_mb(daemon: DaemonProcess) -> float:
    """Of the daemon itself, in units of a million bytes."""
    assert daemon.process is not None
    return float(psutil.Process(daemon.process.pid).memory_info().rss) / 1e6


def run_jobs(daemon: DaemonProcess, count: int) -> None:
    """Submit so many jobs and wait until all have completed."""
    with httpx2.Client(base_url=daemon.client.base_url, trust_env=False, timeout=60) as client:
        for _ in range(count):
            last = client.post("/train", json={"lora_name": "small"})
            assert last.status_code == 200, last.text
    number = daemon.job(last.json()["job_id"])["number"]
    eventually(lambda: _is_idle(daemon), 60 + count / 10, pause=0.5)
    assert daemon.job(number)["status"] == "completed"


def _is_idle(daemon: DaemonProcess) -> bool:
    queue = daemon.client.get("/queue").json()
    return not queue["queued"] and not queue["running"]


@contextlib.contextmanager
def reading(daemon: DaemonProcess, job: str) -> Iterator[list[int]]:
    """While the block runs the job's log is followed by three streams and looked at by tail;
    yields the bytes that each stream brought."""
    heard = [0, 0, 0]
    done = threading.Event()
    threads = [threading.Thread(target=_look, args=(daemon, job, done))]
    threads += [
        threading.Thread(target=_follow, args=(daemon, job, heard, place)) for place in range(3)
    ]
    for thread in threads:
        thread.start()
    yield heard
    done.set()
    for thread in threads:
        thread.join(1200)
        assert not thread.is_alive()


def _follow(daemon: DaemonProcess, job: str, heard: list[int], place: int) -> None:
    address = f"{daemon.client.base_url}/train/{job}/logs/stream"
    with httpx2.stream("GET", address, trust_env=False, timeout=300) as response:
        for piece in response.iter_raw():
            heard[place] += len(piece)


def _look(daemon: DaemonProcess, job: str, done: threading.Event) -> None:
    with httpx2.Client(base_url=daemon.client.base_url, trust_env=False, timeout=60) as client:
        while not done.wait(0.2):
            for query in ("tail=200", "tail=100000", "raw=1&tail=1000"):
                assert client.get(f"/train/{job}/logs?{query}").status_code == 200


def read_through(daemon: DaemonProcess, job: str) -> int:
    """Read a log from its beginning to its end by offsets, and some of it by ranges; the raw
    bytes it has."""
    offset, path = 0, f"/train/{job}/logs"
    while True:
        answer = daemon.client.get(path, params={"offset": offset})
        following = int(answer.headers["x-next-offset"])
        if following == offset:
            break
        offset = following
    for start in range(0, offset, max(PIECE, offset // 20)):
        answer = daemon.client.get(path, headers={"Range": f"bytes={start}-{start + PIECE}"})
        assert answer.status_code == 206
    return offset


def flood(daemon: DaemonProcess, mib: int) -> None:
    """A job that prints so many MiB, read while it does and afterwards."""
    (daemon.state / "flood").write_text(str(mib))
    job = daemon.submit()["job_id"]
    daemon.wait_for(job, "running", "completed")
    with reading(daemon, job) as heard:
        daemon.wait_for(job, "completed", seconds=1200)
        (daemon.state / "flood").unlink()
    assert all(heard)
    assert read_through(daemon, job) > 0.98 * mib * (1 << 20)


def settled_mb(daemon: DaemonProcess) -> float:
    """What it has when it has come to rest."""
    time.sleep(1)
    return resident_mb(daemon)


def measure(daemon: DaemonProcess, mib: int, jobs: int) -> str:
    """Grows by little over a log of so many MiB and so many jobs; the figure in words."""
    flood(daemon, 2)  # what only the first time needs: modules, threads, pages of the database
    run_jobs(daemon, 20)
    before = settled_mb(daemon)
    flood(daemon, mib)
    log = settled_mb(daemon) - before
    run_jobs(daemon, jobs)
    growth = settled_mb(daemon) - before
    told = f"{mib} MiB of log: {log:+.1f} MB, then {jobs:,} jobs: {growth:+.1f} MB in all"
    print(f"from {before:.1f} MB: {told}")
    assert growth < MOST_MB
    return told


@contextlib.contextmanager
def flooded(folder: Path) -> Iterator[DaemonProcess]:
    """A daemon whose jobs print as much as they are told to."""
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("flooding"),
        "TRAINING_CLUSTER_CPU_SLOTS": "2",
        "TRAINING_CLUSTER_LIMITS__QUEUED_PER_USER": "20000",
    }
    with running_daemon(folder / "state", environment) as daemon:
        yield daemon


def test_the_daemon_does_not_grow_with_logs_and_jobs(tmp_path, trust):
    with flooded(tmp_path) as daemon:
        trust(Promise.MEMORY, measure(daemon, 48, 150), form="short")


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_the_daemon_does_not_grow_with_a_gigabyte_of_log_and_ten_thousand_jobs(tmp_path, trust):
    with flooded(tmp_path) as daemon:
        trust(Promise.MEMORY, measure(daemon, 1024, 10_000), form="full")
