"""Conversations that call tools, in OpenAI's form and in ShareGPT's."""

from __future__ import annotations

import io
import json
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from .inspection_parts import inspected, lines, rows_of, table

FUNCTION = {"name": "weather", "parameters": {"type": "object"}}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"in": "B"}'}}
MESSAGES = [
    {"role": "system", "content": "Be brief"},
    {
        "role": "user",
        "content": [{"type": "text", "text": "How is "}, {"type": "text", "text": "B?"}],
    },
    {"role": "assistant", "content": None, "tool_calls": [CALL, CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "rain"},
    {"role": "tool", "tool_call_id": "c2", "content": "wind"},
    {"role": "assistant", "content": "It rains."},
]
PLAIN = {"messages": [MESSAGES[1], {"role": "assistant", "content": "No idea"}]}
ROW = {"messages": MESSAGES, "tools": [{"type": "function", "function": FUNCTION}]}
SAID = json.dumps([{"name": "weather", "arguments": {"in": "B"}}] * 2)
REWRITTEN = {
    "conversations": [
        {"from": "human", "value": "How is B?"},
        {"from": "function_call", "value": SAID},
        {"from": "observation", "value": "rain\n</tool_response>\n<tool_response>\nwind"},
        {"from": "gpt", "value": "It rains."},
    ],
    "system": "Be brief",
    "tools": json.dumps([FUNCTION]),
}


@pytest.fixture
def look(tmp_path: Path):
    return partial(inspected, tmp_path)


def as_parquet(*rows: dict) -> bytes:
    stream = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(list(rows)), stream)
    return stream.getvalue()


def test_openai_conversations_with_tools_become_what_the_trainer_reads(look, tmp_path):
    found = look(lines(PLAIN, ROW))
    assert (found.error, found.format) == (None, "sharegpt")
    assert dict(found.columns)["tools"] == "tools"
    first, second = rows_of(tmp_path, found.train_file)
    assert (first["tools"], first["conversations"][0]["value"]) == ("", "How is B?")
    assert second == REWRITTEN


@pytest.mark.parametrize("kind", ["csv", "parquet", "json"])
def test_tools_are_found_in_every_kind_of_file(look, tmp_path, kind):
    turns = [{**turn, "content": turn["content"] or ""} for turn in PLAIN["messages"][1:]]
    asked = {"role": "user", "content": "How is B?"}
    called = {"role": "assistant", "content": "", "tool_calls": [CALL]}
    row = {"messages": [asked, called, {"role": "tool", "content": "rain"}, *turns]}
    content = {
        "csv": lambda: table({"messages": json.dumps(row["messages"])}),
        "parquet": lambda: as_parquet(row),
        "json": lambda: json.dumps([row]).encode(),
    }[kind]()
    found = look(content, f"a.{kind}")
    assert found.error is None
    [made] = rows_of(tmp_path, found.train_file)
    who = [turn["from"] for turn in made["conversations"]]
    assert who == ["human", "function_call", "observation", "gpt"]


def test_the_older_form_of_one_call_is_read_too(look, tmp_path):
    called = {"role": "assistant", "content": "Let me see.", "function_call": CALL["function"]}
    result = {"role": "function", "name": "weather", "content": "rain"}
    found = look(
        lines({"messages": [MESSAGES[1], called, result, MESSAGES[-1]], "functions": [FUNCTION]})
    )
    assert found.error is None
    [made] = rows_of(tmp_path, found.train_file)
    said = json.dumps([{"name": "weather", "arguments": {"in": "B"}}])
    assert made["conversations"][1]["value"] == f"Let me see.<tool_call>{said}</tool_call>"
    assert made["tools"] == json.dumps([FUNCTION])


@pytest.mark.parametrize(
    ("turn", "said"),
    [
        ({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]},
         "turn 2: a tool call is no function with name and arguments"),
        ({"role": "assistant", "content": None}, "turn 2: content is null"),
        ({"role": "bot", "content": "x"}, "turn 2: role is the string 'bot'"),
        ("hello", "turn 2 is the string 'hello'"),
    ],
)  # fmt: skip
def test_a_turn_that_is_none_is_told_by_its_number(look, turn, said):
    found = look(lines({"messages": [MESSAGES[1], turn], "tools": []}))
    assert said in found.error


@pytest.mark.parametrize("tools", ["nonsense", 7, [1]])
def test_tools_that_are_none_are_refused(look, tools):
    assert "column 'tools'" in look(lines({**ROW, "tools": tools})).error


def sharegpt(value: str, **more: object) -> dict[str, object]:
    turns = [("human", "Hi"), ("function_call", value), ("observation", "x"), ("gpt", "y")]
    return {"conversations": [{"from": who, "value": said} for who, said in turns], **more}


@pytest.mark.parametrize(
    "value",
    ['{"name": "f", "arguments": {}}', SAID, '<think>so</think>{"name": "f", "arguments": {}}'],
)
def test_function_calls_of_sharegpt_are_trained_on_as_they_are_with_their_tools(look, value):
    found = look(lines(sharegpt(value, tools=json.dumps([FUNCTION]))))
    assert found.error is None
    assert dict(found.columns) == {"messages": "conversations", "tools": "tools"}
    assert found.train_file == found.original


@pytest.mark.parametrize("value", ["call f", "{}", "[]", '{"name": "f"}'])
def test_a_function_call_at_which_the_trainer_would_stop_is_refused(look, value):
    assert "turn 2: value is no function call" in look(lines(sharegpt(value))).error


def test_tools_of_sharegpt_are_json_text(look):
    row = sharegpt(SAID, tools=[FUNCTION])
    assert "expected JSON text: an array of the functions" in look(lines(row)).error
