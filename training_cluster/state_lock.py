"""Exactly one scheduler a state directory: a lock that ends with its process."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from training_cluster.domain.errors import StateDirectoryInUse

# a child of a daemon killed a moment ago can still hold the inherited lock
_PATIENCE_SECONDS = 3.0


@contextmanager
def sole_owner(state_dir: Path) -> Iterator[None]:
    """Hold the state directory's lock. Raises StateDirectoryInUse, naming the other daemon."""
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = FileLock(state_dir / "daemon.lock")
    holder = state_dir / "daemon.json"
    try:
        lock.acquire(timeout=_PATIENCE_SECONDS, poll_interval=0.05)
    except Timeout as error:
        raise StateDirectoryInUse(
            f"another daemon schedules from {state_dir} ({_describe(holder)})",
            hint="use that one, stop it, or give another --state-dir",
        ) from error
    try:
        holder.write_text(json.dumps({"pid": os.getpid()}))
        yield
    finally:
        lock.release()


def _describe(holder: Path) -> str:
    try:
        return f"pid {json.loads(holder.read_text())['pid']}"
    except (OSError, ValueError, KeyError):
        return "pid unknown"
