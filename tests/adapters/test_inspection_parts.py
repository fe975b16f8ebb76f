"""OpenAI's conversations whose content comes in parts, or that begin with a developer."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from .inspection_parts import inspected, lines, rows_of

LED = {"role": "developer", "content": "Be brief"}
ASKED = {"role": "user", "content": [{"type": "text", "text": "A "}, {"type": "text", "text": "B"}]}
ANSWERED = {"role": "assistant", "content": "C"}
PICTURE = {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}
SEEN = {"role": "user", "content": [{"type": "text", "text": "What is it?"}, PICTURE]}


@pytest.fixture
def look(tmp_path: Path):
    return partial(inspected, tmp_path)


def test_parts_are_joined_and_a_developer_is_the_system(look, tmp_path):
    plain = {"messages": [{"role": "user", "content": "A"}, ANSWERED]}
    found = look(lines(plain, {"messages": [LED, ASKED, ANSWERED]}))
    assert (found.error, found.format) == (None, "sharegpt")
    _, made = rows_of(tmp_path, found.train_file)
    assert made["system"] == "Be brief"
    assert [turn["value"] for turn in made["conversations"]] == ["A B", "C"]


def test_parts_and_a_developer_are_read_in_preferences_too(look, tmp_path):
    row = {
        "input": {"messages": [LED, ASKED], "tools": []},
        "preferred_output": [{**ANSWERED, "content": [{"type": "text", "text": "C"}]}],
        "non_preferred_output": [ANSWERED | {"content": "D"}],
    }
    found = look(lines(row))
    assert found.error is None
    [made] = rows_of(tmp_path, found.train_file)
    assert (made["system"], made["instruction"], made["chosen"]) == ("Be brief", "A B", "C")
    assert found.report["remarks"] == []


def test_tools_beside_a_preference_are_remarked_on(look):
    answers = {
        "preferred_output": [ANSWERED],
        "non_preferred_output": [ANSWERED | {"content": "D"}],
    }
    tools = [{"type": "function", "function": {"name": "f"}}]
    found = look(lines({"input": {"messages": [ASKED], "tools": tools}, **answers}))
    assert found.error is None
    assert found.report["remarks"] == [
        "1 questions come with tools, for which the trainer has no place in preferences: the model "
        "does not see them"
    ]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [SEEN, ANSWERED]},
        {
            "input": {"messages": [SEEN]},
            "preferred_output": [ANSWERED],
            "non_preferred_output": [ANSWERED],
        },
    ],
)
def test_a_picture_is_refused_by_what_it_is(look, row):
    error = look(lines(row)).error
    assert "turn 1: a part of the content is the string 'image_url'" in error
    assert "pictures and sounds are not trained on here" in error
