"""Writes rows as jsonl into a file that is named by its content in the end."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

_BUFFER_BYTES = 1 << 20
_LOOK_BYTES = 64 << 20


class Overflow(Exception):
    """What a file is rewritten to does not fit on the disk."""


class RowFile:
    """A jsonl file that grows, as long as so many bytes of the disk stay free."""

    def __init__(self, path: Path, keep_free_bytes: int) -> None:
        self._path = path
        self._keep_free_bytes = keep_free_bytes
        self._looked_at = 0
        self._stream = path.open("wb", buffering=_BUFFER_BYTES)
        self._digest = hashlib.sha256()
        self.size_bytes = 0

    def add(self, record: Mapping[str, object]) -> None:
        """Append a row. Raises Overflow."""
        line = json.dumps(record, ensure_ascii=False).encode() + b"\n"
        self._digest.update(line)
        self._stream.write(line)
        self.size_bytes += len(line)
        if self.size_bytes - self._looked_at >= _LOOK_BYTES:
            self._look()

    def _look(self) -> None:
        self._looked_at = self.size_bytes
        if shutil.disk_usage(self._path.parent).free < self._keep_free_bytes + _LOOK_BYTES:
            raise Overflow(f"its rows take more than {self.size_bytes} bytes: the disk is full")

    def close(self) -> str:
        """Make the file durable; returns the name it has got, by its content."""
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
        name = f"{self._digest.hexdigest()}.jsonl"
        self._path.replace(self._path.with_name(name))
        return name

    def give_up(self) -> None:
        """Let go of the file: nobody wants it."""
        self._stream.close()
