"""Measures and removes files below a folder of ours without ever following a link out of it.

A trainer can write into its attempt's directory; a link it leaves there must not have the daemon
measure or remove something else. So every folder on the way is opened without following links,
and what is in it is named by that descriptor.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path, PurePath

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def measure(path: Path) -> int:
    """Bytes on disk a file or a folder takes; 0 when it is not there. Links count as links."""
    try:
        status = os.lstat(path)
    except OSError:
        return 0
    if not stat.S_ISDIR(status.st_mode):
        return status.st_blocks * 512
    total = status.st_blocks * 512
    with contextlib.suppress(OSError):
        for _, folders, files, descriptor in os.fwalk(path, onerror=None):
            total += sum(_blocks(name, descriptor) for name in (*folders, *files))
    return total


def _blocks(name: str, folder: int) -> int:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False).st_blocks * 512
    except OSError:
        return 0


def remove(root: Path, relative: PurePath) -> int:
    """Remove `relative`, a file or a whole folder below `root`; returns the bytes it took.

    Harmless when it is not there. Raises OSError when a folder on the way is a link, and
    ValueError when the name leads out of `root`."""
    parts = relative.parts
    if relative.is_absolute() or not parts or ".." in parts:
        raise ValueError(f"{relative} is not below {root}")
    freed = measure(root / relative)
    try:
        with _opened(root, parts[:-1]) as folder:
            _remove(parts[-1], folder)
    except FileNotFoundError:
        return 0
    return freed


@contextlib.contextmanager
def _opened(root: Path, parts: tuple[str, ...]) -> Iterator[int]:
    """A descriptor of the folder reached from `root` by real folders only."""
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts:
            inner = os.open(part, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        yield folder
    finally:
        os.close(folder)


def _remove(name: str, folder: int) -> None:
    if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        shutil.rmtree(name, dir_fd=folder)
    else:
        os.unlink(name, dir_fd=folder)
