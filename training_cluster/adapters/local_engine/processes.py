"""Tells our processes from strangers that got their pid, and ends those a lost runner left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

MARKER = "TRAINING_CLUSTER_ATTEMPT"


@dataclass(frozen=True, slots=True)
class Process:
    """A process of this boot: the pid alone may be somebody else's by now."""

    pid: int
    start_time: int

    @contextlib.contextmanager
    def handle(self) -> Iterator[int | None]:
        """A pidfd of exactly this process, None if it is gone."""
        pidfd = None
        try:
            pidfd = os.pidfd_open(self.pid)
            same = _stat(self.pid)[2] == self.start_time
        except OSError:
            same = False
        try:
            yield pidfd if same else None
        finally:
            if pidfd is not None:
                os.close(pidfd)

    def send(self, number: signal.Signals) -> bool:
        """Signal it; False if it is gone or not ours to signal."""
        with self.handle() as pidfd, contextlib.suppress(ProcessLookupError, PermissionError):
            if pidfd is not None:
                signal.pidfd_send_signal(pidfd, number)
                return True
        return False


@cache
def boot_id() -> str:
    """Differs after every boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


async def readable(descriptor: int) -> None:
    """Wait until a descriptor is readable; a pidfd is once its process has ended."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    own = os.dup(descriptor)  # a loop keeps one reader per descriptor
    loop.add_reader(own, _resolve, ready)
    try:
        await ready
    finally:
        loop.remove_reader(own)
        os.close(own)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def sweep(directory: Path, trainer: Process | None) -> None:
    """Kill what is left of an attempt that has no runner any more; returns when nothing is.

    To be called with the attempt's lock free: a trainer between spawn and exec, which does not
    carry the marker yet, still holds the runner's lock.
    """
    pause_seconds = 0.001
    while await asyncio.to_thread(_kill_members, directory, trainer):
        await asyncio.sleep(pause_seconds)
        pause_seconds = min(2 * pause_seconds, 0.5)


def _kill_members(directory: Path, trainer: Process | None) -> bool:
    hit = [process.send(signal.SIGKILL) for process in _members(directory, trainer)]
    return any(hit)


def _members(directory: Path, trainer: Process | None) -> list[Process]:
    """The trainer, whatever carries the attempt's marker, and all their descendants."""
    marker = os.fsencode(f"{MARKER}={os.path.realpath(directory)}")
    parents, living = _process_table()
    found = {pid for pid in living if living[pid] == trainer or marker in _environment(pid)}
    size = -1
    while len(found) > size:
        size = len(found)
        found |= {pid for pid in living if parents[pid] in found}
    return [living[pid] for pid in found - {os.getpid()}]


def _process_table() -> tuple[dict[int, int], dict[int, Process]]:
    """Parent of every process, and its identity, by pid; without zombies."""
    parents, living = {}, {}
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        with contextlib.suppress(OSError):
            state, parents[pid], started = _stat(pid)
            if state not in "ZX":
                living[pid] = Process(pid, started)
    return parents, living


def _stat(pid: int) -> tuple[str, int, int]:
    """State, parent and start time (clock ticks after boot) of a process: proc_pid_stat(5)."""
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return fields[0].decode(), int(fields[1]), int(fields[19])


def _environment(pid: int) -> list[bytes]:
    try:
        return _read(f"/proc/{pid}/environ").split(b"\0")
    except OSError:  # ended meanwhile, or another user's
        return []


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except ProcessLookupError as error:  # it ended between open and read
        raise FileNotFoundError(path) from error
