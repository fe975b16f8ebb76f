"""A body with a whole dataset in it is read a row at a time, wherever its parts are cut."""

from __future__ import annotations

import asyncio
import json

import pytest

from training_cluster.api.dialects.lamini import inline_rows
from training_cluster.api.dialects.lamini.inline_rows import InlineRows
from training_cluster.domain.errors import InvalidRequest

CUTS = (1, 2, 3, 7, 64, 1 << 20)


def read(body: bytes, cut: int):
    """The members beside the rows, and the rows as they go on."""

    async def parts():
        for start in range(0, len(body), cut):
            yield body[start : start + cut]

    async def all_of_it():
        found = InlineRows(parts())
        await found.begin()
        lines = [part async for part in found.lines()] if found.has_rows else []
        return found, b"".join(lines).splitlines()

    found, lines = asyncio.run(all_of_it())
    assert found.rows == len(lines)
    return found.members, [json.loads(line) for line in lines]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("indent", [None, 2])
def test_rows_go_on_and_the_other_members_stay(cut, indent):
    rows = [{"input": f'ä€"{number}', "output": "\n"} for number in range(40)]
    others = {"upload_base_path": "x", "n": 12345, "is_public": True, "nested": [{"a": None}]}
    body = {"upload_base_path": "x", "data": rows, **others}
    members, found = read(json.dumps(body, ensure_ascii=False, indent=indent).encode(), cut)
    assert members == {**others, "data": []}
    assert found == [{"prompt": row["input"], "completion": row["output"]} for row in rows]


def test_what_is_no_text_is_written_as_json():
    rows = [
        {"input": 5, "output": {"a": [1, 2.5, None]}},
        {"input": True, "output": None},
        {"input": "only", "more": 1},
    ]
    _, found = read(json.dumps({"data": rows}).encode(), 3)
    assert found == [
        {"prompt": "5", "completion": '{"a": [1, 2.5, null]}'},
        {"prompt": "true", "completion": ""},
        {"prompt": "only", "completion": ""},
    ]


@pytest.mark.parametrize("body", [b"{}", b" { } ", b'{"data":[]}', b'{"data":null}', b'{"a":1}'])
def test_a_body_without_rows_has_none(body):
    members, found = read(body, 1)
    assert members == json.loads(body)
    assert found == []


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b"", "body"),
        (b"[]", "body"),
        (b"{", "body"),
        (b"{1:2}", "body"),
        (b'{"a":1,"a":2}', "body"),
        (b'{"data":[],"data":[]}', "body"),
        (b'{"data":[{"input":1}]} x', "body"),
        (b'{"data":[{"input":1}]', "body"),
        (b'{"data":[{"input":"\xff"}]}', "body"),
        (b'{"data":[{"input":1}', "data"),
        (b'{"data":[', "data[0]"),
        (b'{"data":[{}]}', "data[0]"),
        (b'{"data":[{"input":1},{"output":2}]}', "data[1]"),
        (b'{"data":[{"input":1},]}', "data[1]"),
        (b'{"data":["text"]}', "data[0]"),
        (b'{"data":[{"input":"\\ud800"}]}', "data[0]"),
        (b'{"data":[{"input":1e999}]}', "data[0]"),
        (b'{"data":' + b"[" * 5000, "data[0]"),
        (b'{"data":[{"input":' + b"[" * 5000 + b"]" * 5000 + b"}]}", "data[0]"),
        (b'{"a":NaN}', "a"),
        (b'{"a":' + b"9" * 5000 + b"}", "a"),
    ],
)
@pytest.mark.parametrize("cut", [1, 5, 1 << 20])
def test_what_is_wrong_is_told_with_its_place(body, place, cut):
    with pytest.raises(InvalidRequest) as refused:
        read(body, cut)
    assert refused.value.problems[0].field == place


def test_a_body_that_never_becomes_a_row_is_not_gathered_for_ever():
    head = b'{"data":[{"input":"'
    taken = 0

    async def without_end():
        nonlocal taken
        yield head
        while True:
            taken += 1 << 20
            yield b"x" * (1 << 20)

    async def try_it():
        found = InlineRows(without_end())
        await found.begin()
        async for _ in found.lines():
            pass

    with pytest.raises(InvalidRequest, match=r"data\[0\]"):
        asyncio.run(try_it())
    assert taken < 16 << 20


def test_members_beside_the_rows_are_small():
    body = json.dumps({f"k{number}": "x" * 1000 for number in range(2000)}).encode()
    with pytest.raises(InvalidRequest, match="beside data"):
        read(body, 1 << 16)


def test_a_row_of_some_megabytes_is_a_row():
    row = {"input": "x" * (inline_rows._MOST_ITEM_CHARACTERS - 1000), "output": "y"}
    _, found = read(json.dumps({"data": [row, row]}).encode(), 1 << 16)
    assert [len(each["prompt"]) for each in found] == [len(row["input"])] * 2
