"""Reads a file of any kind row by row; a row that cannot be read is told and passed over."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import BinaryIO

from training_cluster.adapters.dataset_directory.inspection.kinds import kind_of, starts_with_mark
from training_cluster.adapters.dataset_directory.inspection.tables import (
    csv_rows,
    parquet_names,
    parquet_rows,
)
from training_cluster.adapters.dataset_directory.rows import (
    BYTE_ORDER_MARK,
    Row,
    read_array,
    read_lines,
)
from training_cluster.domain.errors import InvalidDataset

LARGEST_ARRAY_BYTES = 512 << 20
# calls of tools, content in parts, and the newer name of the system's role
_REWRITTEN = {"tools", "functions", "tool_calls", "function_call", "type", "developer"}


class Nothing:
    """A digest of nothing."""

    def update(self, data: bytes, /) -> None:
        """Forget it."""


class Source:
    """A file that came. `kind` is jsonl, json, csv or parquet; `sha256` is known once all rows
    were read. The trainer cannot read a `marked` file, one with a byte order mark, as it is."""

    def __init__(self, file: Path, filename: str) -> None:
        self.file = file
        self.kind = kind_of(file, filename)
        self.marked = starts_with_mark(file)
        self._filename = filename
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Of the whole file."""
        return self._digest.hexdigest()

    def rows(self) -> Iterator[Row | InvalidDataset]:
        """Every row, or why there is none at a place."""
        if self.kind == "jsonl":
            with self.file.open("rb") as stream:
                self._digest.update(self._mark(stream))
                yield from read_lines(stream, "", self._digest)
            return
        self._digest = hash_of(self.file)
        try:
            yield from self._whole()
        except InvalidDataset as flaw:  # what follows cannot be found
            yield flaw

    def mentions_tools(self) -> bool:
        """Whether anywhere in OpenAI's conversations there may be what the trainer cannot read as
        it is: a call of a tool or the description of one, content in parts, a developer."""
        if self.kind == "parquet":
            return not _REWRITTEN.isdisjoint(parquet_names(self.file))
        with self.file.open("rb") as stream, mmap(stream.fileno(), 0, access=ACCESS_READ) as text:
            header = text.readline() if self.kind == "csv" else b""
            names = [name.encode() for name in _REWRITTEN]
            return any(name in header or text.find(b'"%b"' % name) >= 0 for name in names)

    def _mark(self, stream: BinaryIO) -> bytes:
        """Pass over a byte order mark."""
        return stream.read(len(BYTE_ORDER_MARK)) if self.marked else b""

    def _whole(self) -> Iterator[Row | InvalidDataset]:
        if self.kind == "csv":
            yield from csv_rows(self.file, self._filename)
        elif self.kind == "parquet":
            yield from parquet_rows(self.file)
        else:
            with self.file.open("rb") as stream:
                self._mark(stream)
                yield from read_array(stream, "the file", Nothing(), LARGEST_ARRAY_BYTES)


def hash_of(file: Path) -> hashlib._Hash:
    """The SHA-256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256")
