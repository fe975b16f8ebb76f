"""What somebody else's API said of a thing that our own words have no place for."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class DialectRequest:
    """Which dialect (`openai`, `lamini`, `vertesia`) asked for a job or dataset, and what it must
    remember of the request to answer in its own words: suffix, metadata, what was "auto".

    `data` is JSON. Its member `metadata`, if it has one, holds the words jobs are found by."""

    dialect: str
    data: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """The form in which the store keeps it."""
        content = {"dialect": self.dialect, "data": dict(self.data)}
        return json.dumps(content, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> DialectRequest:
        """Read a stored request."""
        raw = json.loads(text)
        return cls(raw["dialect"], raw["data"])


def short_id(prefix: str, native_id: str) -> str:
    """A native UUID as dialects write it: `ftjob-` and its 32 hex digits."""
    return prefix + native_id.replace("-", "")


def native_id(prefix: str, dialect_id: str) -> str:
    """The native id behind what `short_id` made; the text itself where it is no such id, so that
    a look-up by it says what was asked for."""
    try:
        found = uuid.UUID(hex=dialect_id.removeprefix(prefix))
    except ValueError:
        return dialect_id
    return str(found) if dialect_id.startswith(prefix) else dialect_id
