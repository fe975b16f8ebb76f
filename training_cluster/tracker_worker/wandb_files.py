"""Reads from W&B's own files which lines of a run are on this disk.

A `.wandb` file is a log in LevelDB's format (blocks of 32 KiB; a record is a checksum, a length,
a type and data; long records come in pieces) after a header of seven bytes; its records are
W&B's protocol buffers.
"""

from __future__ import annotations

import glob
import os
import struct
from collections.abc import Iterator
from itertools import count

from google.protobuf.message import DecodeError
from wandb.proto.wandb_internal_pb2 import Record

HEADER_BYTES = 7
BLOCK_BYTES = 32768
PIECE = struct.Struct("<IHB")
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def recorded_positions(folder: str, run_id: str) -> set[int]:
    """Positions of the lines in all offline files of a run. A torn end counts as the end."""
    pattern = os.path.join(
        glob.escape(folder), "wandb", "offline-run-*", f"run-{glob.escape(run_id)}.wandb"
    )
    return {position for path in glob.glob(pattern) for position in _positions(path)}


def first_missing(positions: set[int]) -> int:
    """How many lines there are before the first one that is not."""
    return next(position for position in count() if position not in positions)


def _positions(path: str) -> Iterator[int]:
    for content in _records(path):
        try:
            record = Record.FromString(content)
        except DecodeError:
            return
        if record.WhichOneof("record_type") == "history":
            yield record.history.step.num


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
