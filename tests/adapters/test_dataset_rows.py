"""Promises about rows: every format's columns and types, and how a flaw is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.adapters.dataset_root import ALPACA, PAIR, Root, openai, sharegpt

CALL = json.dumps({"name": "add", "arguments": {"a": 2, "b": 2}})


@pytest.fixture
def root(tmp_path: Path) -> Root:
    path = tmp_path / "datasets"
    path.mkdir()
    return Root(path)


@pytest.mark.parametrize(
    ("name", "row", "columns"),
    [
        (
            "alpaca",
            {**ALPACA, "system": None, "history": [["Hi", "Hello."]]},
            {
                "prompt": "instruction",
                "query": "input",
                "response": "output",
                "system": "system",
                "history": "history",
            },
        ),
        (
            "alpaca",
            {"instruction": "Hi", "output": "Hello."},
            {"prompt": "instruction", "response": "output"},
        ),
        (
            "sharegpt",
            sharegpt(("system", "Be kind."), ("human", "Hi"), ("gpt", "Hello.")),
            {"messages": "conversations"},
        ),
        (
            "sharegpt",
            sharegpt(
                ("human", "2+2?"), ("function_call", CALL), ("observation", "4"), ("gpt", "Four.")
            ),
            {"messages": "conversations"},
        ),
        (
            "openai",
            openai(("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello.")),
            {"messages": "messages"},
        ),
        (
            "preference",
            PAIR,
            {"prompt": "instruction", "chosen": "chosen", "rejected": "rejected"},
        ),
        ("text", {"text": "Plain prose."}, {"prompt": "text"}),
    ],
)
def test_every_format_is_accepted_with_exactly_the_columns_it_has(
    root: Root, name: str, row: dict[str, Any], columns: dict[str, str]
) -> None:
    root.add([row], format=name)
    assert root.registry.resolve("v1").columns == columns


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        (
            "alpaca",
            {"instructions": "Hi", "output": "Hello."},
            "column 'instruction': is missing (the row has instructions, output, did you mean "
            "'instructions'); expected instruction and output in every row of the format alpaca",
        ),
        ("alpaca", {"instruction": "Hi"}, "column 'output': is missing (the row has instruction"),
        ("alpaca", {}, "column 'instruction': is missing (the row has nothing)"),
        (
            "alpaca",
            {**ALPACA, "output": ["Hello."]},
            "column 'output': is an array of 1; expected a non-empty string",
        ),
        ("alpaca", {**ALPACA, "output": " "}, "column 'output': is an empty string"),
        ("alpaca", {**ALPACA, "output": None}, "column 'output': is null; expected a non-empty"),
        ("alpaca", {**ALPACA, "input": 5}, "column 'input': is the number 5; expected a string"),
        (
            "alpaca",
            {**ALPACA, "instruction": " "},
            "column 'instruction': is an empty string; expected a question or an instruction",
        ),
        ("alpaca", {**ALPACA, "system": {}}, "column 'system': is an object; expected a string"),
        (
            "alpaca",
            {**ALPACA, "history": [["Hi", "Hello."], ["Hi"]]},
            "column 'history': entry 2 is an array of 1; expected an array of [prompt, response]",
        ),
        ("preference", {**PAIR, "rejected": True}, "column 'rejected': is the boolean true"),
        ("preference", ALPACA, "column 'chosen': is missing"),
        ("text", {"text": ""}, "column 'text': is an empty string; expected a non-empty string"),
        ("text", {"content": "Hi"}, "column 'text': is missing (the row has content)"),
        ("openai", {"messages": "Hi"}, "column 'messages': is the string 'Hi'; expected an arra"),
        (
            "openai",
            {"messages": []},
            "column 'messages': has no turns; expected at least one user and one assistant",
        ),
        ("openai", {"messages": ["Hi"]}, "turn 1 is the string 'Hi'; expected an object with rol"),
        ("openai", {"messages": [{"content": "Hi"}]}, "turn 1 has no role; expected one of syst"),
        (
            "openai",
            {"messages": [{"role": "user"}]},
            "turn 1: content is missing; expected a non-empty string",
        ),
        ("openai", openai(("user", "")), "turn 1: content is an empty string"),
        (
            "openai",
            openai(("asistant", "Hi")),
            "turn 1: role is 'asistant', did you mean 'assistant'; expected one of system, user, "
            "assistant",
        ),
        ("openai", openai((["user"], "Hi")), "turn 1: role is ['user']; expected one of"),
        (
            "openai",
            openai(("assistant", "Hello.")),
            "turn 1 is from assistant; expected user there: turns alternate, system comes first",
        ),
        (
            "openai",
            openai(("system", "Be kind."), ("user", "Hi"), ("user", "Hi!")),
            "turn 3 is from user; expected assistant there",
        ),
        (
            "openai",
            openai(("user", "Hi"), ("assistant", "Hello."), ("system", "Be kind.")),
            "turn 3 is from system; expected user there",
        ),
        (
            "openai",
            openai(("user", "Hi"), ("assistant", "Hello."), ("user", "Bye")),
            "column 'messages': ends with user; expected the last turn from assistant",
        ),
        ("openai", openai(("system", "Be kind.")), "has no turns; expected at least one user"),
        (
            "openai",
            openai(("user", "2+2?"), ("tool", "4")),
            "turn 2 is a tool call or its result; expected plain text turns",
        ),
        (
            "openai",
            {"messages": [{"role": "user", "content": "Hi"}, {"tool_calls": [{}]}]},
            "turn 2 is a tool call or its result",
        ),
        (
            "sharegpt",
            sharegpt(("user", "Hi"), ("assistant", "Hello.")),
            "turn 1: from is 'user'; expected one of system, human, observation, gpt, function_",
        ),
        (
            "sharegpt",
            sharegpt(("human", "Hi"), ("observation", "4")),
            "turn 2 is from observation; expected gpt or function_call there",
        ),
        (
            "sharegpt",
            sharegpt(("human", "Hi")),
            "ends with human; expected the last turn from gpt or function_call",
        ),
    ],
)
def test_a_row_that_does_not_fit_its_format_is_refused_with_row_and_column(
    root: Root, name: str, row: dict[str, Any], message: str
) -> None:
    good: dict[str, dict[str, Any]] = {
        "alpaca": ALPACA,
        "preference": PAIR,
        "text": {"text": "Prose."},
        "openai": openai(("user", "Hi"), ("assistant", "Hello.")),
        "sharegpt": sharegpt(("human", "Hi"), ("gpt", "Hello.")),
    }
    root.add([good[name], row], format=name)
    assert f"v1/train.json, row 2, column {next(iter_columns(message))}" in root.refusal()
    assert message in root.refusal()
    root.add("\n".join(json.dumps(each) for each in (good[name], row)), format=name)
    assert "v1/train.json, line 2, column" in root.refusal()


def iter_columns(message: str) -> Iterator[str]:
    """The column a message names, or none in particular."""
    if message.startswith("column '"):
        yield "'" + message.split("'")[1] + "'"
    yield ""


def test_a_flaw_in_the_validation_file_is_told_as_one(root: Root) -> None:
    folder = root.add([ALPACA], validation="held_out.json")
    (folder / "held_out.json").write_text(json.dumps([{**ALPACA, "output": 1}]))
    assert root.refusal().startswith("v1/held_out.json, row 1, column 'output': is the number 1")


@pytest.mark.parametrize(("where", "other"), [("train", "held_out"), ("held_out", "train")])
def test_train_and_validation_have_the_same_columns(root: Root, where: str, other: str) -> None:
    rows = {other: [{**ALPACA, "system": "Be kind."}], where: [ALPACA]}
    folder = root.add(rows["train"], validation="held_out.json")
    (folder / "held_out.json").write_text(json.dumps(rows["held_out"]))
    expected = f"v1/{where}.json, column 'system': is in no row, though {other}.json has it"
    assert root.refusal().startswith(expected)


def test_a_column_that_changes_its_kind_is_refused_before_the_trainer_trips_over_it(
    root: Root,
) -> None:
    root.add([{**ALPACA, "id": None}, {**ALPACA, "id": 7}, {**ALPACA, "id": "eight"}])
    assert root.refusal() == (
        "v1/train.json, row 3, column 'id': is a string; expected a number, as in the rows before"
    )


def test_a_column_that_begins_late_in_long_jsonl_is_refused(root: Root) -> None:
    early = json.dumps({**ALPACA, "output": "x" * 100_000, "note": None})
    late = json.dumps({**ALPACA, "note": "new"})
    root.add("\n".join([*[early] * 110, late]), file="train.jsonl")
    expected = "v1/train.jsonl, line 111, column 'note': has its first value after 10 MiB of jsonl"
    assert root.refusal().startswith(expected)
    root.add("\n".join([late, *[early] * 110]), file="train.jsonl")
    assert root.registry.resolve("v1").rows == 111
