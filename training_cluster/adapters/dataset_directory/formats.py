"""The dataset formats: which columns each has, and what a row must hold.

Roles are those of LLaMA-Factory's dataset_info.json; the format gives the usual column names.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from training_cluster.adapters.dataset_directory.refusal import describe, did_you_mean, refuse
from training_cluster.adapters.dataset_directory.rows import Row
from training_cluster.adapters.dataset_directory.turns import (
    OPENAI,
    SHAREGPT,
    Flaw,
    conversation_flaw,
)

# datasets reads jsonl in pieces of 10 MiB and fixes the columns and their types with the first
_FIRST_PIECE_BYTES = 10 * 1024**2
_KINDS: Mapping[type, str] = {
    str: "a string",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    list: "an array",
    dict: "an object",
}


@dataclass(frozen=True, slots=True)
class Column:
    """One role of a format: the column's usual name and the check of its value."""

    name: str
    flaw: Callable[[object], Flaw | None]
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Format:
    """The roles of a format; `asks_by` are those of which one must hold text."""

    roles: Mapping[str, Column]
    asks_by: tuple[str, ...] = ()


def _text_flaw(value: object) -> Flaw | None:
    if isinstance(value, str) and value.strip():
        return None
    return describe(value), "a non-empty string"


def _string_flaw(value: object) -> Flaw | None:
    return None if isinstance(value, str) else (describe(value), "a string")


def _optional_string_flaw(value: object) -> Flaw | None:
    return None if value is None or isinstance(value, str) else (describe(value), "a string")


def _boolean_flaw(value: object) -> Flaw | None:
    return None if isinstance(value, bool) else (describe(value), "true or false")


def _history_flaw(value: object) -> Flaw | None:
    if value is None:
        return None
    expected = "an array of [prompt, response] pairs of strings"
    if not isinstance(value, list):
        return describe(value), expected
    for number, pair in enumerate(value, start=1):
        two = isinstance(pair, list) and len(pair) == 2
        if not two or not all(isinstance(text, str) for text in pair):
            return f"entry {number} is {describe(pair)}", expected
    return None


def _tools_flaw(value: object) -> Flaw | None:
    """The trainer reads the text as JSON, and stops at what is none."""
    expected = "JSON text: an array of the functions that may be called"
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        return describe(value), expected
    try:
        tools = json.loads(value)
    except (ValueError, RecursionError):
        return describe(value), expected
    return None if isinstance(tools, list) else (describe(tools), expected)


_ASKING = {
    "prompt": Column("instruction", _string_flaw),
    "query": Column("input", _optional_string_flaw, optional=True),
}
_SYSTEM = Column("system", _optional_string_flaw, optional=True)
_AROUND = {"system": _SYSTEM, "history": Column("history", _history_flaw, optional=True)}

FORMATS: Mapping[str, Format] = {
    "alpaca": Format(
        {**_ASKING, "response": Column("output", _text_flaw), **_AROUND}, ("prompt", "query")
    ),
    "prompt_completion": Format(
        {
            "prompt": Column("prompt", _text_flaw),
            "response": Column("completion", _text_flaw),
            "system": _SYSTEM,
        }
    ),
    "sharegpt": Format(
        {
            "messages": Column("conversations", lambda v: conversation_flaw(v, SHAREGPT)),
            "system": _SYSTEM,
            "tools": Column("tools", _tools_flaw, optional=True),
        }
    ),
    "openai": Format(
        {
            "messages": Column("messages", lambda v: conversation_flaw(v, OPENAI)),
            "system": _SYSTEM,
        }
    ),
    "preference": Format(
        {
            **_ASKING,
            "chosen": Column("chosen", _text_flaw),
            "rejected": Column("rejected", _text_flaw),
            **_AROUND,
        },
        ("prompt", "query"),
    ),
    "kto": Format(
        {
            **_ASKING,
            "response": Column("output", _text_flaw),
            "kto_tag": Column("kto_tag", _boolean_flaw),
            **_AROUND,
        },
        ("prompt", "query"),
    ),
    "text": Format({"prompt": Column("text", _text_flaw)}),
}


class RowChecker:
    """Checks the rows of one file, one after another, and learns which columns they have."""

    def __init__(
        self,
        name: str,
        format_name: str,
        renamed: Mapping[str, str],
        said_by: str = "dataset.json",
    ) -> None:
        self._name = name
        self._said_by = said_by
        self.format_name = format_name
        self._format = FORMATS[format_name]
        self._renamed = renamed
        roles = self._format.roles
        self._columns = {role: renamed.get(role, roles[role].name) for role in roles}
        self._kinds: dict[str, str | None] = {}
        self.rows = 0

    def check(self, row: Row) -> None:
        """Raise InvalidDataset unless the row fits the format and the rows before it."""
        self.rows += 1
        for role, column in self._format.roles.items():
            self._check_column(row, column, self._columns[role])
        self._check_asked(row)
        self._check_kinds(row)

    def columns(self) -> dict[str, str]:
        """Role to column for every role that the file's rows have. Raises InvalidDataset."""
        if not self.rows:
            raise refuse(self._name, "has no rows", "at least one")
        for role, column in self._renamed.items():
            if column not in self._kinds:
                where = f"{self._name}, column {column!r}"
                names = ", ".join(sorted(self._kinds))
                found = f"is in no row, though {self._said_by} names it for {role}"
                raise refuse(where, found, f"one of the columns there are: {names}")
        return {role: name for role, name in self._columns.items() if name in self._kinds}

    def names(self) -> tuple[str, ...]:
        """The columns that have a role, as the rows may have them."""
        return tuple(self._columns.values())

    def kinds(self) -> dict[str, str | None]:
        """What every column of the rows holds, in words; None where no row has a value."""
        return dict(self._kinds)

    def _check_column(self, row: Row, column: Column, name: str) -> None:
        if name not in row.record:
            if column.optional:
                return
            names = ", ".join(sorted(row.record)) or "nothing"
            guess = did_you_mean(name, row.record)
            found = f"is missing (the row has {names}{guess})"
            raise refuse(f"{row.where}, column {name!r}", found, self._what_is_needed())
        if flaw := column.flaw(row.record[name]):
            found, expected = flaw
            verb = "" if found.startswith(("turn ", "entry ", "has ", "ends ")) else "is "
            raise refuse(f"{row.where}, column {name!r}", f"{verb}{found}", expected)

    def _check_asked(self, row: Row) -> None:
        asked = [row.record.get(self._columns[role]) for role in self._format.asks_by]
        if asked and not any(isinstance(text, str) and text.strip() for text in asked):
            where = f"{row.where}, column {self._columns['prompt']!r}"
            raise refuse(where, "is an empty string", "a question or an instruction")

    def _what_is_needed(self) -> str:
        roles = self._format.roles
        needed = [self._columns[role] for role in roles if not roles[role].optional]
        return f"{' and '.join(needed)} in every row of the format {self.format_name}"

    def _check_kinds(self, row: Row) -> None:
        """The trainer reads columns into typed tables: one kind a column, known early."""
        for name, value in row.record.items():
            kind = None if value == [] else _KINDS.get(type(value))
            known = self._kinds.setdefault(name, None)
            if kind is None or kind == known:
                continue
            where = f"{row.where}, column {name!r}"
            if known is not None:
                raise refuse(where, f"is {kind}", f"{known}, as in the rows before")
            if row.offset >= _FIRST_PIECE_BYTES:
                found = "has its first value after 10 MiB of jsonl"
                raise refuse(where, found, "a value in an early row: the trainer reads in pieces")
            self._kinds[name] = kind
