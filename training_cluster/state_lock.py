"""Exactly one scheduler a state directory: a lock that ends with its process."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from training_cluster.domain.errors import StateDirectoryInUse, StateDirectoryUnusable

# a child of a daemon killed a moment ago can still hold the inherited lock
_PATIENCE_SECONDS = 3.0


@contextmanager
def sole_owner(state_dir: Path) -> Iterator[None]:
    """Hold the state directory's lock. Raises StateDirectoryInUse, naming the other daemon, and
    StateDirectoryUnusable when it cannot be written."""
    lock = FileLock(state_dir / "daemon.lock")
    holder = state_dir / "daemon.json"
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock.acquire(timeout=_PATIENCE_SECONDS, poll_interval=0.05)
    except OSError as error:
        if isinstance(error, Timeout):
            raise _in_use(state_dir, holder) from error
        raise _unusable(state_dir, error) from error
    try:
        with contextlib.suppress(OSError):  # on a full disk: it only helps people
            holder.write_text(json.dumps({"pid": os.getpid()}))
        yield
    finally:
        lock.release()


def _in_use(state_dir: Path, holder: Path) -> StateDirectoryInUse:
    return StateDirectoryInUse(
        f"another daemon schedules from {state_dir} ({_describe(holder)})",
        hint="use that one, stop it, or give another --state-dir",
    )


def _unusable(state_dir: Path, error: OSError) -> StateDirectoryUnusable:
    reason = "its disk is read-only" if error.errno == errno.EROFS else error.strerror or str(error)
    return StateDirectoryUnusable(
        f"cannot write to the state directory {state_dir}, {_owner(state_dir)}: {reason}",
        hint=f"give another --state-dir, or one that user {os.geteuid()} may write",
    )


def _owner(state_dir: Path) -> str:
    try:
        return f"which belongs to {state_dir.owner()}"
    except (OSError, KeyError):
        return "which cannot be looked at or does not exist"


def _describe(holder: Path) -> str:
    try:
        return f"pid {json.loads(holder.read_text())['pid']}"
    except (OSError, ValueError, KeyError):
        return "pid unknown"
