"""One worker of a tracker at a time, and nothing left over by the one before."""

from __future__ import annotations

import fcntl
import os
import time

from .leftovers import kill_marked
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
    while own and not kill_marked(f"{MARKER}={own}"):
        time.sleep(POLL_SECONDS)


def _is_taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
