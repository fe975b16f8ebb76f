"""docs/dialects.md says what the code does: every field of every request and answer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from tests.dialects.page import rows, section, words
from training_cluster.adapters.llamafactory.config import FIELDS, LORA_FIELDS
from training_cluster.api.app import create_app
from training_cluster.api.auth import Access
from training_cluster.api.dialects.errors import SHAPES, shape_of

DIALECTS = {"OpenAI": SHAPES["/v1"], "Lamini": SHAPES["/v1/train"], "Vertesia": SHAPES["/api/v1"]}
# what holds for every table and every page of it
WORDS = {"object", "id", "data", "status", "name"}


@cache
def document() -> dict[str, Any]:
    """The daemon's OpenAPI document."""

    def never() -> Any:
        raise AssertionError

    return create_app(never, Access("local", never)).openapi()  # type: ignore[arg-type]


def fields_of(dialect: str) -> set[str]:
    """Every field that its routes read or answer, at any depth."""
    found: set[str] = set()
    for path, operations in document()["paths"].items():
        if shape_of(path) is DIALECTS[dialect]:
            for operation in operations.values():
                found.update(_fields(operation, frozenset()))
    return found


def _fields(node: Any, seen: frozenset[str]) -> Iterator[str]:
    if isinstance(node, list):
        for each in node:
            yield from _fields(each, seen)
    elif isinstance(node, dict):
        reference = node.get("$ref")
        if isinstance(reference, str) and reference not in seen:
            name = reference.rpartition("/")[2]
            yield from _fields(document()["components"]["schemas"][name], seen | {reference})
        for key, value in node.items():
            if key == "properties" and isinstance(value, dict):
                yield from value
            if key not in ("example", "examples"):
                yield from _fields(value, seen)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_field_of_a_dialect_is_in_its_tables(dialect):
    told = {name for row in rows(section(dialect)) for name in words(" ".join(row))}
    told |= {part for name in told for part in re.split(r"\W+", name)}
    fields = fields_of(dialect)
    assert len(fields) > 30, "these are not its routes"
    missing = fields - told - WORDS
    assert not missing, f"docs/dialects.md, {dialect}: a row for {', '.join(sorted(missing))}"


def test_the_table_of_ours_and_the_trainers_is_the_one_that_is_used():
    said: dict[str, str] = {}
    for row in rows(section("Ours and the trainer's")):
        ours, theirs = ([*re.findall(r"`(\w+)`", cell)] for cell in row)
        said |= dict(zip(ours, ours if row[1] == "the same names" else theirs, strict=False))
    used = {**FIELDS, **LORA_FIELDS}
    assert {name: said.get(name) for name in used} == used
