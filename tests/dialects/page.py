"""Reads docs/dialects.md: its sections, its tables, and the words it has for each status."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "dialects.md").read_text()


def section(title: str) -> str:
    """What stands below a heading of the second level."""
    (found,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def rows(text: str) -> list[list[str]]:
    """The cells of all rows of its tables, without their heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    rules = [number for number, row in enumerate(cells) if set("".join(row)) == {"-"}]
    heads = {number - 1 for number in rules}
    return [row for number, row in enumerate(cells) if number not in heads | set(rules)]


def words(text: str) -> set[str]:
    """What stands in it as code."""
    return set(re.findall(r"`([^`\s]+)`", text))


@dataclass(frozen=True)
class Said:
    """What each dialect says of a job in a state, `when` something else is true as well."""

    state: str
    when: str
    openai: str
    lamini: str
    vertesia: str


def statuses() -> list[Said]:
    """The table of statuses."""
    found = [row for row in rows(section("Statuses")) if len(row) == 5]
    return [Said(*(cell.strip("`") for cell in row)) for row in found]


def status_of_sessions() -> dict[str, set[str]]:
    """The states of its newest job that each status of a session stands for, where it has one."""
    found = [row for row in rows(section("Statuses")) if len(row) == 2]
    return {row[0].strip("`"): words(row[1]) for row in found}
