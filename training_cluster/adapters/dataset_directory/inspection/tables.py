"""Rows of csv and parquet files as JSON objects."""

from __future__ import annotations

import base64
import contextlib
import csv
import datetime
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training_cluster.adapters.dataset_directory.refusal import refuse
from training_cluster.adapters.dataset_directory.rows import Row
from training_cluster.domain.errors import InvalidDataset

_LONGEST_CELL = 16 << 20
_BATCH_ROWS = 512
_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no")
_LABELS = ("label", "kto_tag")
_LISTS = ("history", "messages", "conversations", "conversation")
_TURNS = ({"role", "content"}, {"role", "tool_calls"}, {"from", "value"})


def csv_rows(file: Path, filename: str) -> Iterator[Row | InvalidDataset]:
    """Every record of a csv with a header. Raises InvalidDataset where nothing can follow."""
    csv.field_size_limit(_LONGEST_CELL)
    with file.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream, delimiter=_delimiter(file, filename), strict=True)
        try:
            header = _header(next(reader, []))
            for cells in reader:
                yield from _record(header, cells, reader.line_num)
        except csv.Error as error:
            where = f"line {reader.line_num}"
            raise refuse(where, f"is not valid csv ({error})", "RFC 4180 csv") from None
        except UnicodeDecodeError:
            raise _not_utf8(file) from None


def _delimiter(file: Path, filename: str) -> str:
    with file.open("rb") as stream:
        first = stream.readline(1 << 16)
    if filename.lower().endswith(".tsv") or (b"\t" in first and b"," not in first):
        return "\t"
    return ";" if b";" in first and b"," not in first else ","


def _not_utf8(file: Path) -> InvalidDataset:
    """Text is decoded in pieces: which line it was is looked up."""
    with file.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                found = f"byte 0x{line[error.start]:02x} is not UTF-8"
                return refuse(f"line {number}", found, "text encoded as UTF-8")
    return refuse("the file", "is not UTF-8", "text encoded as UTF-8")


def _header(names: list[str]) -> list[str]:
    header = [name.strip() for name in names]
    if not all(header) or len(set(header)) < len(header):
        raise refuse("line 1", "is no header", "a name for each column, each once")
    return header


def _record(header: list[str], cells: list[str], line: int) -> Iterator[Row | InvalidDataset]:
    if not cells:
        return
    where = f"line {line}"
    if len(cells) != len(header):
        found = f"has {len(cells)} cells"
        yield refuse(where, found, f"{len(header)}, as the header: text with commas in quotes")
        return
    record = {name: _cell(name, cell) for name, cell in zip(header, cells, strict=True)}
    yield Row(where, 0, record)


def _cell(name: str, text: str) -> object:
    """Text, but for labels, and for conversations that were written as JSON."""
    if name in _LABELS and text.strip().lower() in (*_TRUE, *_FALSE):
        return text.strip().lower() in _TRUE
    if name == "history" and not text.strip():
        return None
    if text.lstrip()[:1] in ("[", "{"):
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(text)
            if _is_structure(name, value):
                return value
    return text


def _is_structure(name: str, value: object) -> bool:
    """Turns, or what holds them: other JSON is an answer in JSON, and stays text."""
    if isinstance(value, dict):
        return _is_turn(value) or _is_structure(name, value.get("messages"))
    if not isinstance(value, list):
        return False
    if name in _LISTS and (not value or isinstance(value[0], list)):
        return True
    return bool(value) and all(_is_turn(each) for each in value)


def _is_turn(value: object) -> bool:
    return isinstance(value, dict) and any(keys <= value.keys() for keys in _TURNS)


def parquet_rows(file: Path) -> Iterator[Row | InvalidDataset]:
    """Every row of a parquet file. Raises InvalidDataset."""
    import pyarrow as pa  # only this worker ever loads it
    from pyarrow import parquet

    number = 0
    try:
        with parquet.ParquetFile(file) as table:
            for batch in table.iter_batches(batch_size=_BATCH_ROWS):
                for record in batch.to_pylist():
                    number += 1
                    yield Row(f"row {number}", 0, {k: _plain(v) for k, v in record.items()})
    except (pa.ArrowException, OSError, ValueError) as error:
        where = f"after row {number}"
        raise refuse(where, f"cannot be read as parquet ({error})", "a parquet file") from None


def parquet_names(file: Path) -> set[str]:
    """The names of all columns, and of what is nested in them."""
    from pyarrow import parquet

    with parquet.ParquetFile(file) as table:
        paths = [table.schema.column(index).path for index in range(len(table.schema.names))]
        return {name for path in paths for name in path.split(".")}


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return value if isinstance(value, str | int | float | bool | None) else str(value)
