"""One version's folder: opens the files in it and nothing outside it."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from training_cluster.adapters.dataset_directory.refusal import refuse

Stamp = tuple[int, ...] | None
"""What tells whether a file changed; None where there is none."""


def stamp(path: str) -> Stamp:
    """The stamp of a file; the change time sees edits that keep size and modification time."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_dev


@dataclass(frozen=True, slots=True)
class VersionFolder:
    """`<root>/<version>`, where `version` is already known to be a plain name."""

    root: str
    version: str

    def path(self, name: str) -> str:
        """The path of a file as the manifest spells it."""
        return os.path.join(self.root, self.version, name)

    def where(self, name: str) -> str:
        """The file's name in messages."""
        return f"{self.version}/{name}"

    def resolve(self, name: str) -> Path:
        """The file's real path. Raises InvalidDataset unless it is inside the folder."""
        folder = os.path.realpath(f"{self.root}/{self.version}")
        file = os.path.realpath(self.path(name))
        inside = os.path.dirname(folder) == os.path.realpath(self.root)
        if not inside or not file.startswith(f"{folder}/"):
            raise refuse(self.where(name), "is outside the version's folder", "a file in it")
        return Path(file)

    def open(self, name: str) -> BinaryIO:
        """Open a regular file for reading. Raises InvalidDataset."""
        try:
            return self._open_regular(name)
        except OSError as error:
            found = f"cannot be read ({error.strerror})"
            raise refuse(self.where(name), found, "a readable file in the folder") from None

    def _open_regular(self, name: str) -> BinaryIO:
        # a FIFO put there would block an ordinary open forever
        descriptor = os.open(self.resolve(name), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise refuse(self.where(name), "is not a regular file", "a file with rows")
        return open(descriptor, "rb")
