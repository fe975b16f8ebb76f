"""Rewrites rows of shapes that LLaMA-Factory cannot read into one it can.

A conversation that ends with a question and its answers becomes `history`, `system`, `instruction`
and the answers: LLaMA-Factory's alpaca rows, in which several turns have a place.
"""

from __future__ import annotations

from collections.abc import Mapping

from training_cluster.adapters.dataset_directory.inspection.tool_calls import (
    text_of,
    with_tools,
)
from training_cluster.adapters.dataset_directory.refusal import describe, refuse
from training_cluster.adapters.dataset_directory.turns import OPENAI, SHAREGPT, conversation_flaw

Record = Mapping[str, object]
_ANSWERED = {"role": "assistant", "content": "-"}
_ROLES = {"human": "user", "gpt": "assistant", "system": "system"}
_LABELS = ("kto_tag", "label")


def convert(format_name: str, record: Record, where: str) -> dict[str, object]:
    """The row as `preference`, `kto` or `sharegpt`. Raises InvalidDataset."""
    if format_name == "openai_preference":
        return _openai_preference(record, where)
    if format_name == "messages_tools":
        return with_tools(record, where)
    if format_name == "messages_preference":
        return _messages_preference(record, where)
    return _messages_kto(record, where)


def _openai_preference(record: Record, where: str) -> dict[str, object]:
    """`{input: {messages}, preferred_output: [...], non_preferred_output: [...]}`"""
    asked = record.get("input")
    if not isinstance(asked, dict) or "messages" not in asked:
        raise refuse(f"{where}, column 'input'", f"is {describe(asked)}", "{messages: [...]}")
    return {
        **_asked(asked["messages"], f"{where}, column 'input'"),
        "chosen": _answer(record.get("preferred_output"), where, "preferred_output"),
        "rejected": _answer(record.get("non_preferred_output"), where, "non_preferred_output"),
    }


def _messages_preference(record: Record, where: str) -> dict[str, object]:
    """`chosen` and `rejected` as turns, or as whole conversations that differ in the last one."""
    chosen, rejected = record["chosen"], record["rejected"]
    asked = record.get("prompt", record.get("conversations", record.get("messages")))
    if asked is None and isinstance(chosen, list):
        asked, chosen = chosen[:-1], chosen[-1:]
        rejected = rejected[-1:] if isinstance(rejected, list) else rejected
    if isinstance(asked, str):
        asked = [{"role": "user", "content": asked}]
    return {
        **_asked(asked, f"{where}, the question"),
        "chosen": _answer(chosen, where, "chosen"),
        "rejected": _answer(rejected, where, "rejected"),
    }


def _messages_kto(record: Record, where: str) -> dict[str, object]:
    """`messages` that end with an answer, and a label for it."""
    names = ("messages", "conversations", "conversation")
    name = next((name for name in names if name in record), "messages")
    turns = record.get(name)
    if not isinstance(turns, list) or not turns:
        raise refuse(f"{where}, column {name!r}", f"is {describe(turns)}", "an array of turns")
    label = next((record[name] for name in _LABELS if name in record), None)
    return {
        **_asked(turns[:-1], f"{where}, column {name!r}"),
        "output": _answer(turns[-1:], where, name),
        "kto_tag": label,
    }


def _asked(turns: object, where: str) -> dict[str, object]:
    """What stands before the answer. Raises InvalidDataset."""
    plain = turns
    if isinstance(turns, list):
        plain = [_plain(turn, where, number) for number, turn in enumerate(turns, start=1)]
    completed = [*plain, _ANSWERED] if isinstance(plain, list) else plain
    if flaw := conversation_flaw(completed, OPENAI):
        found, expected = flaw
        raise refuse(where, found, expected)
    assert isinstance(plain, list)
    system = plain[0]["content"] if plain[0]["role"] == "system" else ""
    texts = [turn["content"] for turn in plain if turn["role"] != "system"]
    pairs = [list(pair) for pair in zip(texts[:-1:2], texts[1:-1:2], strict=True)]
    return {"system": system, "history": pairs, "instruction": texts[-1], "input": ""}


def _answer(value: object, where: str, column: str) -> str:
    turn = value[-1] if isinstance(value, list) and len(value) == 1 else value
    if isinstance(turn, str) and turn.strip():
        return turn
    plain = _plain(turn, f"{where}, column {column!r}", 1)
    if isinstance(plain, dict) and plain.get("role") == "assistant":
        text = plain.get("content")
        if isinstance(text, str) and text.strip() and set(plain) <= {"role", "content", "weight"}:
            return text
    expected = "one turn of the assistant, with text"
    raise refuse(f"{where}, column {column!r}", f"is {describe(value)}", expected)


def _plain(turn: object, where: str, number: int) -> object:
    """A turn as OpenAI writes it in one piece, also if it is one as ShareGPT does."""
    if not isinstance(turn, dict):
        return turn
    if SHAREGPT.role_key not in turn:
        role = "system" if turn.get("role") == "developer" else turn.get("role")
        in_parts = isinstance(turn.get("content"), list)
        content = {"content": text_of(turn, number, where)} if in_parts else {}
        return {**turn, **({"role": role} if "role" in turn else {}), **content}
    role = turn[SHAREGPT.role_key]
    return {"role": _ROLES.get(role, role), "content": turn.get(SHAREGPT.text_key)}
