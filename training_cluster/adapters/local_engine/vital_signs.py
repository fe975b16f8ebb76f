"""What can be seen from outside of an attempt that runs: its files and its processor time."""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import psutil

from training_cluster.adapters.local_engine.attempt_files import AttemptFiles
from training_cluster.ports import VitalSigns

_MOST_FILES = 5000


def look(directory: Path) -> VitalSigns:
    """The signs of life of an attempt. Never raises."""
    return VitalSigns(_fingerprint(directory), _cpu_seconds(directory))


def _fingerprint(directory: Path) -> int:
    """A number that changes when a file of the attempt comes, goes or changes."""
    found = 0
    for count, entry in enumerate(_entries(directory)):
        if count == _MOST_FILES:
            break
        with contextlib.suppress(OSError):
            status = entry.stat(follow_symlinks=False)
            text = f"{entry.path}\0{status.st_size}\0{status.st_mtime_ns}"
            found = zlib.crc32(text.encode(errors="surrogateescape"), found)
    return found


def _entries(directory: Path) -> Iterator[os.DirEntry[str]]:
    folders = [str(directory)]
    while folders:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                yield entry
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)


def _cpu_seconds(directory: Path) -> float | None:
    """What the runner and everything below it have used, those that have ended included."""
    runner = AttemptFiles(directory).runner()
    if runner is None:
        return None
    with runner.handle() as pidfd:
        if pidfd is None:
            return None
        try:
            parent = psutil.Process(runner.pid)
            return sum(_used(each) for each in (parent, *parent.children(recursive=True)))
        except psutil.Error:
            return None


def _used(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:  # it has just ended: its parent tells of it the next time
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)
