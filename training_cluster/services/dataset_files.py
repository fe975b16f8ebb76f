"""The files of datasets: those on their way, and the immutable ones named by their content."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path


class DatasetFiles:
    """`files` holds what versions refer to, `incoming` what is being received or checked, named
    by the version's id, `work` what the check makes. All calls are for threads.

    `changing` is held from publishing a file until the store refers to it, and from the store
    letting go of one until it is removed: the same content may come while it goes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.changing = asyncio.Lock()
        self.tokens = folder / "tokens"  # of those that are fetched from a hub
        self._files, self._incoming, self._work = (
            folder / name for name in ("files", "incoming", "work")
        )

    def make(self) -> None:
        """Make the folders; only the daemon's user gets in."""
        for each in (self._files, self._incoming, self._work, self.tokens):
            each.mkdir(parents=True, exist_ok=True, mode=0o700)

    def incoming(self, dataset_id: str) -> Path:
        """Where the content of a version lies until it was checked."""
        return self._incoming / dataset_id

    def stored(self, name: str) -> Path:
        """The path of an immutable file."""
        return self._files / name

    def workplace(self, dataset_id: str) -> Path:
        """A fresh, empty folder for what the check of a version makes."""
        place = self._work / dataset_id
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(mode=0o700)
        return place

    def publish(self, file: Path, name: str) -> None:
        """Give a file its immutable name, beside the one it has: until the store knows of it
        nothing is lost if the daemon dies. Durable when this returns."""
        target = self.stored(name)
        if not target.exists():
            _link(file, target)
            target.chmod(0o444)
            _sync(target)
        _sync(self._files)

    def forget(self, dataset_id: str) -> None:
        """Remove what is not needed any more once a version was checked, or is not wanted."""
        self.incoming(dataset_id).unlink(missing_ok=True)
        self.clear(dataset_id)

    def clear(self, dataset_id: str) -> None:
        """Remove what a check has made so far."""
        shutil.rmtree(self._work / dataset_id, ignore_errors=True)

    def remove(self, names: Iterable[str]) -> None:
        """Remove immutable files that no version refers to."""
        for name in names:
            self.stored(name).unlink(missing_ok=True)

    def sweep(self, let_go: set[str], expected: set[str]) -> int:
        """Remove what was left half done, and files `let_go` by deleted versions; how many files
        that were. For the start of the daemon, before anything is received. `expected` are the
        ids of versions and uploads under way. Files of unknown origin stay: a database that was
        restored or rebuilt may know less than is there."""
        shutil.rmtree(self._work, ignore_errors=True)
        self.make()
        gone = [path for path in self._incoming.iterdir() if path.name not in expected]
        gone += [path for path in self.tokens.iterdir() if path.name not in expected]
        gone += [path for name in let_go if (path := self.stored(name)).exists()]
        for path in gone:
            with contextlib.suppress(OSError):
                path.unlink()
        return len(gone)


def _link(file: Path, target: Path) -> None:
    try:
        os.link(file, target)
    except FileExistsError:
        pass
    except OSError:  # a file system without links
        half = target.with_suffix(".half")
        shutil.copyfile(file, half)
        half.replace(target)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
