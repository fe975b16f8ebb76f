"""Streams the rows of a data file: one JSON array of objects, or one object a line (jsonl).

What LLaMA-Factory's loader (Hugging Face datasets over pyarrow) would fail on is refused here:
a byte order mark before an array, a key given twice in an object, lone surrogates.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, NoReturn, Protocol

from training_cluster.adapters.dataset_directory.refusal import describe, quote, refuse
from training_cluster.domain.errors import InvalidDataset

MIB = 1024**2
LARGEST_ARRAY_BYTES = 128 * MIB
_LONGEST_LINE_BYTES = 16 * MIB
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SPACE = re.compile(r"[ \t\r\n]*")


class Digest(Protocol):
    """The part of a hashlib object that is fed."""

    def update(self, data: bytes, /) -> None:
        """Take in more content."""


@dataclass(frozen=True, slots=True)
class Row:
    """One object, where it stands in words, and the bytes that precede it when they are read in
    pieces (0 in an array, which the trainer reads whole)."""

    where: str
    offset: int
    record: dict[str, object]


def read_rows(
    stream: BinaryIO, name: str, digest: Digest, *, largest_array_bytes: int = LARGEST_ARRAY_BYTES
) -> Iterator[Row]:
    """Yield the rows of an open file, feeding its bytes to `digest`. Raises InvalidDataset."""
    head = stream.read(4096)
    stream.seek(0)
    if head.startswith(BYTE_ORDER_MARK):
        raise refuse(name, "starts with a byte order mark", "UTF-8 without one")
    if head.lstrip()[:1] == b"[":
        return read_array(stream, name, digest, largest_array_bytes)
    return _line_rows(stream, name, digest)


def _line_rows(stream: BinaryIO, name: str, digest: Digest) -> Iterator[Row]:
    for row in read_lines(stream, f"{name}, ", digest):
        if isinstance(row, InvalidDataset):
            raise row
        yield row


def read_lines(stream: BinaryIO, prefix: str, digest: Digest) -> Iterator[Row | InvalidDataset]:
    """Yield what each line of jsonl holds, or why it holds none; `prefix` begins every place."""
    offset = number = 0
    while line := stream.readline(_LONGEST_LINE_BYTES + 1):
        number += 1
        digest.update(line)
        where = f"{prefix}line {number}"
        if len(line) > _LONGEST_LINE_BYTES:
            offset += len(line) + _skip_line(stream, line, digest)
            found = f"is longer than {_LONGEST_LINE_BYTES // MIB} MiB"
            yield refuse(where, found, "a shorter row")
            continue
        if not line.isspace():
            yield _row_or_flaw(line, where, number, offset)
        offset += len(line)


def _row_or_flaw(line: bytes, where: str, number: int, offset: int) -> Row | InvalidDataset:
    try:
        return Row(where, offset, _line_record(line, where, number))
    except InvalidDataset as flaw:
        return flaw


def _skip_line(stream: BinaryIO, line: bytes, digest: Digest) -> int:
    """Read on to the end of a line that is too long; the bytes that were skipped."""
    skipped = 0
    while line and not line.endswith(b"\n"):
        line = stream.readline(MIB)
        digest.update(line)
        skipped += len(line)
    return skipped


def _line_record(line: bytes, where: str, number: int) -> dict[str, object]:
    text = _decode(line, where).strip()
    expected = "one JSON object a line, or the file as one JSON array"
    value, end = _parse(text, 0, where, expected, first_line=number)
    if end != len(text):
        raise refuse(
            where, f"has {quote(text[end:].strip())} after the object", "one JSON object a line"
        )
    return _record(value, where, may_hide_surrogates="\\u" in text)


def read_array(stream: BinaryIO, name: str, digest: Digest, largest: int) -> Iterator[Row]:
    """Yield the rows of what is left of a file that is one JSON array. Raises InvalidDataset."""
    size = os.fstat(stream.fileno()).st_size
    if size > largest:
        found = f"is a JSON array of {size / MIB:.1f} MiB"
        raise refuse(name, found, f"at most {largest / MIB:.1f} MiB, or jsonl, which has no limit")
    data = stream.read()
    digest.update(data)
    text = _decode(data, name)
    del data
    return _elements(text, name)


def _elements(text: str, name: str) -> Iterator[Row]:
    position = _skip_space(text, text.index("[") + 1)
    suspicious = "\\u" in text
    number = 0
    mark = "]" if text.startswith("]", position) else ","
    position += mark == "]"
    while mark == ",":
        number += 1
        where = f"{name}, row {number}"
        value, position = _parse(text, position, where, "a JSON object")
        yield Row(where, 0, _record(value, where, may_hide_surrogates=suspicious))
        mark, position = _separator(text, position, where)
    if text[position:].strip():
        raise refuse(name, f"has {quote(text[position:].strip())} after the array", "nothing there")


def _separator(text: str, position: int, where: str) -> tuple[str, int]:
    position = _skip_space(text, position)
    mark = text[position : position + 1]
    if mark not in (",", "]"):
        found = f"is followed by {quote(mark)}" if mark else "is where the file breaks off"
        raise refuse(where, found, "a comma and the next row, or the closing ]")
    return mark, _skip_space(text, position + 1)


def _skip_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _decode(data: bytes, where: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        found = f"byte {error.start} (0x{data[error.start]:02x}) is not UTF-8"
        raise refuse(where, found, "text encoded as UTF-8") from None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    record = dict(pairs)
    if len(record) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {quote(twice)} occurs twice in one object")
    return record


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON value")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_not_json)


def _parse(
    text: str, position: int, where: str, expected: str, *, first_line: int = 1
) -> tuple[object, int]:
    try:
        return _DECODER.raw_decode(text, position)
    except json.JSONDecodeError as error:
        line = first_line - 1 + error.lineno
        found = f"is not valid JSON ({error.msg}, line {line} column {error.colno})"
        raise refuse(where, found, expected) from None
    except ValueError as error:
        raise refuse(where, str(error), expected) from None
    except RecursionError:
        raise refuse(where, "is nested too deeply", expected) from None


def _record(value: object, where: str, *, may_hide_surrogates: bool) -> dict[str, object]:
    if not isinstance(value, dict):
        raise refuse(where, f"is {describe(value)}", "a JSON object")
    if may_hide_surrogates:
        _refuse_surrogates(value, where)
    return value


def _refuse_surrogates(record: dict[str, object], where: str) -> None:
    try:
        json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        found = f"holds the lone surrogate \\u{ord(error.object[error.start]):04x}"
        raise refuse(where, found, "whole characters only") from None
