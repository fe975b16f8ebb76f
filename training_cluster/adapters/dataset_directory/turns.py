"""Checks one conversation the way LLaMA-Factory's converters read it.

They drop a conversation that does not alternate, and say so only in the trainer's log; here it
is refused, so that nobody trains on less than they think.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from training_cluster.adapters.dataset_directory.refusal import describe, did_you_mean, quote

Flaw = tuple[str, str]
"""What was found, and what would be right."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a turn is spelled: its two keys, and who asks and who answers."""

    role_key: str
    text_key: str
    asking: tuple[str, ...]
    answering: tuple[str, ...]
    system: str = "system"

    @property
    def roles(self) -> tuple[str, ...]:
        """Every role a turn may have."""
        return (self.system, *self.asking, *self.answering)


SHAREGPT = Dialect("from", "value", ("human", "observation"), ("gpt", "function_call"))
OPENAI = Dialect("role", "content", ("user",), ("assistant",))


def conversation_flaw(value: object, dialect: Dialect) -> Flaw | None:
    """The first flaw of a conversation, or None."""
    shape = f"an array of {{{dialect.role_key}, {dialect.text_key}}} objects"
    if not isinstance(value, list):
        return describe(value), shape
    for number, turn in enumerate(value, start=1):
        if flaw := _turn_flaw(turn, number, dialect):
            return flaw
    turns = [turn[dialect.role_key] for turn in value]
    led_by_system = turns[:1] == [dialect.system]
    return _order_flaw(turns[led_by_system:], 1 + led_by_system, dialect)


def _turn_flaw(turn: object, number: int, dialect: Dialect) -> Flaw | None:
    if not isinstance(turn, dict):
        keys = f"{dialect.role_key} and {dialect.text_key}"
        return f"turn {number} is {describe(turn)}", f"an object with {keys}"
    role = turn.get(dialect.role_key)
    if turn.get("tool_calls") is not None or (dialect is OPENAI and role == "tool"):
        found = f"turn {number} is a tool call or its result"
        return found, "plain text turns (the sharegpt format has function_call and observation)"
    if role not in dialect.roles:
        return _role_flaw(turn, role, number, dialect)
    text = turn.get(dialect.text_key)
    if not isinstance(text, str) or not text.strip():
        found = describe(text) if dialect.text_key in turn else "missing"
        return f"turn {number}: {dialect.text_key} is {found}", "a non-empty string"
    if role == "function_call" and not _is_call(text):
        expected = '{"name": "...", "arguments": {...}} as JSON text, or an array of such'
        return f"turn {number}: value is no function call ({quote(text)})", expected
    return None


def _is_call(text: str) -> bool:
    """The trainer would stop at others. Text around it is told from it by the template's marks."""
    if "<" in text.partition("{")[0]:
        return True
    try:
        calls = json.loads(text)
    except (ValueError, RecursionError):
        return False
    calls = calls if isinstance(calls, list) else [calls]
    return bool(calls) and all(
        isinstance(call, dict) and isinstance(call.get("name"), str) and "arguments" in call
        for call in calls
    )


def _role_flaw(turn: dict[str, object], role: object, number: int, dialect: Dialect) -> Flaw:
    expected = "one of " + ", ".join(dialect.roles)
    if dialect.role_key not in turn:
        return f"turn {number} has no {dialect.role_key}", expected
    guess = did_you_mean(role, dialect.roles) if isinstance(role, str) else ""
    return f"turn {number}: {dialect.role_key} is {quote(role)}{guess}", expected


def _order_flaw(roles: list[str], first: int, dialect: Dialect) -> Flaw | None:
    if not roles:
        return "has no turns", f"at least one {dialect.asking[0]} and one {dialect.answering[0]}"
    for index, role in enumerate(roles):
        due = (dialect.asking, dialect.answering)[index % 2]
        if role not in due:
            found = f"turn {index + first} is from {role}"
            return found, f"{' or '.join(due)} there: turns alternate, system comes first"
    if len(roles) % 2:
        last = " or ".join(dialect.answering)
        return f"ends with {roles[-1]}", f"the last turn from {last}"
    return None
