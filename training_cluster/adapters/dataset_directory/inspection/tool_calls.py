"""Rewrites OpenAI's conversations with tool calls, content in parts or a developer into the
ShareGPT form the trainer has for them.

LLaMA-Factory's own reader of OpenAI's form adds a sentence to every system message
(data/converter.py), so its rows are written as it would read them, without that sentence.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from training_cluster.adapters.dataset_directory.refusal import describe, refuse
from training_cluster.domain.errors import InvalidDataset

Record = Mapping[str, object]
_ASKING = {"user": "human", "tool": "observation", "function": "observation"}
_SYSTEM = ("system", "developer")
_MARKS = ("<tool_call>", "</tool_call>")  # by these data/formatter.py tells calls from text
_BETWEEN_RESULTS = "\n</tool_response>\n<tool_response>\n"  # as data/converter.py joins them


def with_tools(record: Record, where: str) -> dict[str, object]:
    """`{messages, tools}` as `{conversations, system, tools}`. Raises InvalidDataset."""
    turns = record.get("messages")
    place = f"{where}, column 'messages'"
    if not isinstance(turns, list) or not turns:
        raise refuse(place, f"is {describe(turns)}", "an array of {role, content} objects")
    system = ""
    if isinstance(turns[0], dict) and turns[0].get("role") in _SYSTEM:
        system, turns = text_of(turns[0], 1, place), turns[1:]
    first = 1 + (len(turns) < len(record["messages"]))  # type: ignore[arg-type]
    rewritten = [_turn(turn, number, place) for number, turn in enumerate(turns, start=first)]
    return {
        "conversations": list(_joined(rewritten)),
        "system": system,
        "tools": _tools(record, where),
    }


def _turn(turn: object, number: int, place: str) -> dict[str, str]:
    if not isinstance(turn, dict):
        raise refuse(place, f"turn {number} is {describe(turn)}", "an object with role and content")
    role = turn.get("role")
    if role == "assistant" and (calls := _calls(turn)):
        said = [_call(call, number, place) for call in calls]
        value = json.dumps(said, ensure_ascii=False)
        if turn.get("content"):
            value = f"{text_of(turn, number, place)}{_MARKS[0]}{value}{_MARKS[1]}"
        return {"from": "function_call", "value": value}
    if role == "assistant":
        return {"from": "gpt", "value": text_of(turn, number, place)}
    if role not in _ASKING:
        found = f"turn {number}: role is {describe(role)}"
        raise refuse(place, found, "user, assistant or tool, and system at the beginning")
    return {"from": _ASKING[role], "value": text_of(turn, number, place)}


def _calls(turn: Record) -> list[Any]:
    """The calls of a turn, also in the form that was usual before there were several."""
    calls = turn.get("tool_calls")
    if isinstance(calls, list) and calls:
        return [call.get("function") if isinstance(call, dict) else call for call in calls]
    return [turn["function_call"]] if turn.get("function_call") else []


def _call(call: object, number: int, place: str) -> dict[str, object]:
    """`{name, arguments}`, the arguments as they are and not as text."""
    if isinstance(call, dict) and isinstance(call.get("name"), str):
        arguments = call.get("arguments")
        try:
            known = json.loads(arguments) if isinstance(arguments, str) else arguments
        except (ValueError, RecursionError):
            known = None
        if isinstance(known, dict):
            return {"name": call["name"], "arguments": known}
    found = f"turn {number}: a tool call is no function with name and arguments"
    raise refuse(place, found, '{"name": "...", "arguments": "{...}"}, arguments being JSON')


def text_of(turn: Record, number: int, place: str) -> str:
    """Content as text, also where it came in parts. Raises InvalidDataset."""
    content = turn.get("content")
    if isinstance(content, list):
        if odd := next((part for part in content if not _is_text(part)), None):
            kind = odd.get("type") if isinstance(odd, dict) else None
            found = f"turn {number}: a part of the content is {describe(kind or odd)}"
            raise refuse(place, found, "text: pictures and sounds are not trained on here")
        content = "".join(part["text"] for part in content)
    if isinstance(content, str) and content.strip():
        return content
    raise refuse(place, f"turn {number}: content is {describe(content)}", "a non-empty string")


def _is_text(part: object) -> bool:
    return (
        isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
    )


def _joined(turns: list[dict[str, str]]) -> Iterator[dict[str, str]]:
    """Results of several calls become one turn."""
    for is_result, group in groupby(turns, lambda turn: turn["from"] == "observation"):
        if is_result:
            results = _BETWEEN_RESULTS.join(turn["value"] for turn in group)
            yield {"from": "observation", "value": results}
        else:
            yield from group


def _tools(record: Record, where: str) -> str:
    """What may be called, as the JSON text the trainer wants; nothing where there is nothing."""
    tools = record.get("tools") or record.get("functions")
    if isinstance(tools, str):
        tools = _parsed(tools, where)
    if not tools:
        return ""
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise _odd_tools(tools, where)
    plain = [tool.get("function", tool) for tool in tools]
    return json.dumps(plain, ensure_ascii=False)


def _parsed(text: str, where: str) -> object:
    try:
        return json.loads(text) if text.strip() else None
    except (ValueError, RecursionError):
        raise _odd_tools(text, where) from None


def _odd_tools(found: object, where: str) -> InvalidDataset:
    expected = 'an array of {"type": "function", "function": {...}}'
    return refuse(f"{where}, column 'tools'", f"is {describe(found)}", expected)
