"""One worker of a tracker at a time, and nothing left over by the one before."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time

from .protocol import Unavailable

MARKER = "TRAINING_CLUSTER_TRACKER"  # in the environment of a worker and of all it starts
PREDECESSOR_SECONDS = 10.0  # it ends as soon as it sees that its daemon is gone
POLL_SECONDS = 0.05


def take_lock(path: str) -> None:
    """Hold a lock file for as long as this process lives.

    Raises Unavailable when another worker still holds it after some seconds."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    patience = time.monotonic() + PREDECESSOR_SECONDS
    while not _is_taken(lock):
        if time.monotonic() > patience:
            os.close(lock)
            raise Unavailable(f"another worker still holds {path}")
        time.sleep(POLL_SECONDS)


def end_leftovers() -> None:
    """Kill what an earlier worker started and left behind; returns when it is gone. To be called
    with the lock held: whoever carries the marker then is of no worker that lives."""
    own = os.environ.get(MARKER)
    while own and _kill_all(f"{MARKER}={own}".encode()):
        time.sleep(POLL_SECONDS)


def _kill_all(marker: bytes) -> bool:
    killed = [_kill(pid, marker) for pid in _others()]
    return any(killed)


def _is_taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _others() -> list[int]:
    return [
        int(name) for name in os.listdir("/proc") if name.isdigit() and name != str(os.getpid())
    ]


def _kill(pid: int, marker: bytes) -> bool:
    """Kill a process if it carries the marker; whether it did. A zombie has no environment."""
    with contextlib.suppress(OSError):
        pidfd = os.pidfd_open(pid)  # before the look: the pid cannot change hands in between
        try:
            with open(f"/proc/{pid}/environ", "rb") as environment:
                if marker not in environment.read().split(b"\0"):
                    return False
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        finally:
            os.close(pidfd)
        return True
    return False
