"""Reads from W&B's own files what of a run is on this disk.

A `.wandb` file is a log in LevelDB's format (blocks of 32 KiB; a record is a checksum, a length,
a type and data; long records come in pieces) after a header of seven bytes; its records are
W&B's protocol buffers.

A run that was opened more than once has a file for each time. W&B counts the steps of each file
from 0 and adds what the run had before when the files are uploaded: a row's position in the run is
the number of rows in the files before it, and its own step.
"""

from __future__ import annotations

import glob
import json
import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import DecodeError
from wandb.proto.wandb_internal_pb2 import Record, RunRecord

HEADER_BYTES = 7
BLOCK_BYTES = 32768
PIECE = struct.Struct("<IHB")
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


@dataclass
class RunFile:
    """What one file holds up to its end, or to where it is torn. `run` is the run as it was
    described last; `rows` come one after the other from step 0; `exit_code` is None for a run that
    was not finished; `saved` are files kept beside it."""

    path: str
    run: RunRecord
    began: int
    rows: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None
    saved: list[str] = field(default_factory=list)


def run_files(folder: str, run_id: str) -> list[RunFile]:
    """All offline files of a run that tell at least which run it is, in the order they began."""
    name = f"run-{glob.escape(run_id)}.wandb"
    paths = glob.glob(os.path.join(glob.escape(folder), "wandb", "offline-run-*", name))
    found = [file for path in sorted(paths) if (file := _run_file(path))]
    return sorted(found, key=lambda file: file.began)


def recorded_lines(folder: str, run_id: str) -> int:
    """How many lines of a run are in its files."""
    return sum(len(file.rows) for file in run_files(folder, run_id))


def _run_file(path: str) -> RunFile | None:
    file: RunFile | None = None
    for record in _decoded(_records(path)):
        if record.HasField("run"):
            file = file or RunFile(path, record.run, record.run.start_time.ToNanoseconds())
            file.run = record.run
        elif file is not None:
            _add(file, record)
    return file


def _add(file: RunFile, record: Record) -> None:
    kind = record.WhichOneof("record_type")
    if kind == "history" and record.history.step.num == len(file.rows):
        file.rows.append(values(record.history.item))
    elif kind == "summary":
        file.summary |= values(record.summary.update)
    elif kind == "exit":
        file.exit_code = record.exit.exit_code
    elif kind == "files":
        file.saved += [saved.path for saved in record.files.files]


def values(items: Iterable[Any]) -> dict[str, Any]:
    """Items of a row, a summary or a configuration."""
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def _decoded(contents: Iterator[bytes]) -> Iterator[Record]:
    for content in contents:
        try:
            yield Record.FromString(content)
        except DecodeError:
            return


def _records(path: str) -> Iterator[bytes]:
    with open(path, "rb") as file:
        data = file.read()
    pieces: list[bytes] = []
    for kind, piece in _pieces(data):
        if kind in (FULL, FIRST):
            pieces = []
        pieces.append(piece)
        if kind in (FULL, LAST):
            yield b"".join(pieces)


def _pieces(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = HEADER_BYTES
    while position + PIECE.size <= len(data):
        left_in_block = BLOCK_BYTES - position % BLOCK_BYTES
        if left_in_block < PIECE.size:
            position += left_in_block
            continue
        _, length, kind = PIECE.unpack_from(data, position)
        position += PIECE.size
        if kind not in (FULL, FIRST, MIDDLE, LAST) or position + length > len(data):
            return
        yield kind, data[position : position + length]
        position += length
