"""Lists the files an artifact stands for."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator


def files(artifacts: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Name in the tracker and path here of every file of every artifact, sorted. What is gone is
    left out, and so are links: a folder written by a training job may hold any."""
    for name, path in sorted(artifacts.items()):
        if os.path.isdir(path):
            yield from _files_below(name, path)
        elif os.path.isfile(path):
            yield _relative(name), path


def _files_below(name: str, folder: str) -> Iterator[tuple[str, str]]:
    for current, folders, names in os.walk(folder):
        folders.sort()
        for file in sorted(names):
            path = os.path.join(current, file)
            if os.path.isfile(path) and not os.path.islink(path):
                yield _relative(posixpath.join(name, os.path.relpath(path, folder))), path


def _relative(name: str) -> str:
    """A name that leads nowhere outside."""
    return posixpath.normpath("/" + name).lstrip("/")
