"""Ends what a worker started: wandb-core lives in a session of its own, out of reach of killpg.

Used by the daemon when it ends a worker, and by a worker that follows one that was killed."""

from __future__ import annotations

import contextlib
import os
import signal
import time

POLL_SECONDS = 0.01
MOST_SECONDS = 5.0  # a process the kernel cannot end, on a dead network disk, stays


def kill_marked(marker: str) -> bool:
    """Kill every other process with `NAME=value` in its environment; returns when none is left,
    or after some seconds: False then. Blocks."""
    patience = time.monotonic() + MOST_SECONDS
    while _kill_all(marker.encode()):
        if time.monotonic() > patience:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _kill_all(marker: bytes) -> bool:
    killed = [_kill(pid, marker) for pid in _pids()]
    return any(killed)


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _kill(pid: int, marker: bytes) -> bool:
    """Whether the process carried the marker; a zombie carries nothing any more."""
    if pid == os.getpid():
        return False
    with contextlib.suppress(OSError):
        pidfd = os.pidfd_open(pid)  # before the look, so that the pid cannot change hands
        try:
            with open(f"/proc/{pid}/environ", "rb") as environment:
                if marker not in environment.read().split(b"\0"):
                    return False
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        finally:
            os.close(pidfd)
        return True
    return False
