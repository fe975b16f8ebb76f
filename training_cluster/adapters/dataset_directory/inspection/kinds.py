"""Tells what kind of file came by its content; the name is asked where that says nothing."""

from __future__ import annotations

from pathlib import Path

from training_cluster.adapters.dataset_directory.refusal import refuse
from training_cluster.adapters.dataset_directory.rows import BYTE_ORDER_MARK

_HEAD_BYTES = 4096
_UNPACKED = "the file unpacked"
_OTHERS = {
    b"\x1f\x8b": ("is packed (gzip)", _UNPACKED),
    b"BZh": ("is packed (bzip2)", _UNPACKED),
    b"\xfd7z": ("is packed (xz)", _UNPACKED),
    b"(\xb5/": ("is packed (zstd)", _UNPACKED),
    b"\xff\xfe": ("is encoded as UTF-16", "text encoded as UTF-8"),
    b"\xfe\xff": ("is encoded as UTF-16", "text encoded as UTF-8"),
    b"%PDF": ("is a PDF", "jsonl, json, csv or parquet"),
    b"ARROW1": ("is an Arrow file", "the same table as parquet"),
    b"\xd0\xcf\x11\xe0": ("is a document of an office program", "a table saved as csv"),
}
"""What files begin with that hold no rows for us: what each is, and what would be right."""
_OFFICE = (".xlsx", ".xlsm", ".ods", ".docx", ".odt")
_PROSE = (".txt", ".text", ".md", ".rst")
_OPEN_ENDS = (b"{", b"[", b",", b":")


def kind_of(file: Path, filename: str) -> str:
    """jsonl, json, csv or parquet. Raises InvalidDataset for a file that is none of them."""
    head, name = _head(file), filename.lower()
    if head.startswith(b"PAR1"):
        return "parquet"
    _refuse_others(head, name)
    text = head.removeprefix(BYTE_ORDER_MARK).lstrip()
    if not text:
        raise refuse("the file", "is empty", "at least one row")
    if text[:1] == b"[":
        return "json"
    if text[:1] == b"{" and not name.endswith(".csv"):
        _refuse_one_object(text)
        return "jsonl"
    if name.endswith((".jsonl", ".json")):
        return "jsonl"  # each line is told of
    if name.endswith(_PROSE):
        found = "is plain text, of which nobody can say where a row ends"
        raise refuse("the file", found, '{"text": "..."} a line, as jsonl; a table ends in .csv')
    return "csv"


def starts_with_mark(file: Path) -> bool:
    """Whether the first character is a byte order mark, as some editors write it."""
    return _head(file).startswith(BYTE_ORDER_MARK)


def _head(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(_HEAD_BYTES)


def _refuse_others(head: bytes, name: str) -> None:
    for magic, (found, expected) in _OTHERS.items():
        if head.startswith(magic):
            raise refuse("the file", found, expected)
    if head.startswith(b"PK"):
        if name.endswith(_OFFICE):
            raise refuse("the file", "is a document of an office program", "a table saved as csv")
        raise refuse("the file", "is packed (zip)", _UNPACKED)
    if b"\0" in head:
        raise refuse("the file", "is binary, or UTF-16", "jsonl, json, csv or parquet in UTF-8")


def _refuse_one_object(text: bytes) -> None:
    first, end, _ = text.partition(b"\n")
    if end and first.rstrip().endswith(_OPEN_ENDS):
        found = "is one JSON object over several lines"
        raise refuse("the file", found, "an array of rows, [{...}, {...}], or one row a line")
