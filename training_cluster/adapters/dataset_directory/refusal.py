"""Words a refused dataset: where the flaw is, what was found, what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from training_cluster.domain.errors import FieldProblem, InvalidDataset

_LONGEST_QUOTE = 60


def refuse(where: str, found: str, expected: str) -> InvalidDataset:
    """The error for a flaw at `where`, e.g. `v1.0/train.json, row 3, column 'output'`."""
    problem = FieldProblem("dataset_version", f"{where}: {found}", expected)
    return InvalidDataset(f"{where}: {found}; expected {expected}", problems=(problem,))


def quote(value: object) -> str:
    """A value for a message: kept short, control characters escaped."""
    text = repr(value)
    return text if len(text) <= _LONGEST_QUOTE else f"{text[: _LONGEST_QUOTE - 3]}..."


def describe(value: object) -> str:
    """What a JSON value is, in JSON's words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, int | float):
        return f"the number {quote(value)}"
    if isinstance(value, str):
        return f"the string {quote(value)}" if value.strip() else "an empty string"
    return f"an array of {len(value)}" if isinstance(value, list) else "an object"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`, did you mean 'x'` when something known is close, otherwise nothing."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f", did you mean {close[0]!r}" if close else ""
