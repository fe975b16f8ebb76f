"""What a report says of the rows that were read: lengths, duplicates, columns."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_MOST_HASHES = 2_000_000  # of duplicates no more is remembered: some 130 MB
_TOKENIZED_ROWS = 20_000
_TOKENIZED_AT_ONCE = 256
_LONG_TOKENS = 2048  # the cutoff_len of a job that says none


class Statistics:
    """Fed with the text of every good row."""

    def __init__(self, tokenizer: Path | None) -> None:
        self._characters = Lengths()
        self._tokens = TokenLengths(tokenizer)
        self._hashes: set[int] = set()
        self._duplicates = 0
        self._rows = 0

    def add(self, record: Mapping[str, object], columns: Iterable[str]) -> None:
        """Take in a row; `columns` are those that are trained on."""
        self._rows += 1
        values = [record.get(name) for name in columns]
        self._note_duplicate(values)
        text = "\n".join(_texts(values))
        self._characters.add(len(text))
        self._tokens.add(text)

    def _note_duplicate(self, values: list[object]) -> None:
        data = json.dumps(values, ensure_ascii=False).encode("utf-8", "surrogatepass")
        mark = int.from_bytes(hashlib.blake2b(data, digest_size=8).digest())
        if mark in self._hashes:
            self._duplicates += 1
        elif len(self._hashes) < _MOST_HASHES:
            self._hashes.add(mark)

    def told(self) -> dict[str, Any]:
        """What the report says."""
        return {
            "rows": self._rows,
            "duplicates": self._duplicates,
            "duplicates_complete": len(self._hashes) < _MOST_HASHES,
            "characters": self._characters.told(),
            "tokens": self._tokens.told(),
        }


class Lengths:
    """A histogram by powers of two."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._total = self._longest = 0
        self._shortest: int | None = None

    def add(self, length: int) -> None:
        """Take in one length."""
        self._counts[max(length - 1, 0).bit_length()] += 1
        self._total += length
        self._longest = max(self._longest, length)
        shortest = self._shortest
        self._shortest = length if shortest is None else min(shortest, length)

    def told(self) -> dict[str, Any]:
        """Shortest, mean, longest, and how many have at most so many."""
        count = self._counts.total()
        return {
            "shortest": self._shortest or 0,
            "mean": round(self._total / count, 1) if count else 0.0,
            "longest": self._longest,
            "histogram": [
                {"at_most": 1 << power, "rows": self._counts[power]}
                for power in sorted(self._counts)
            ],
        }


class TokenLengths:
    """Counts tokens of the first rows with a model's own tokenizer, where there is one."""

    def __init__(self, tokenizer: Path | None) -> None:
        self._tokenizer = _load(tokenizer)
        self._lengths = Lengths()
        self._pending: list[str] = []
        self._taken = self._long = 0

    def add(self, text: str) -> None:
        """Take in a row's text."""
        if self._tokenizer is None or self._taken >= _TOKENIZED_ROWS:
            return
        self._taken += 1
        self._pending.append(text)
        if len(self._pending) >= _TOKENIZED_AT_ONCE:
            self._count()

    def _count(self) -> None:
        pending, self._pending = self._pending, []
        for encoding in self._tokenizer.encode_batch(pending, add_special_tokens=False):
            length = len(encoding.ids)
            self._lengths.add(length)
            self._long += length > _LONG_TOKENS

    def told(self) -> dict[str, Any] | None:
        """None without a tokenizer. `over_long` rows are cut at the default cutoff_len."""
        if self._tokenizer is None:
            return None
        self._count()
        return {
            "counted_rows": self._taken,
            **self._lengths.told(),
            "over_long": {"than": _LONG_TOKENS, "rows": self._long},
        }


def _load(tokenizer: Path | None) -> Any:
    if tokenizer is None or not (file := tokenizer / "tokenizer.json").is_file():
        return None
    from tokenizers import Tokenizer  # only this worker ever loads it

    try:
        return Tokenizer.from_file(str(file))
    except Exception:  # it raises that; a report without tokens is one, too
        return None


def _texts(value: object) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
    elif isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)
