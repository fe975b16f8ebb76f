"""Promises about manifests and files: what is read, and how a flaw is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.adapters.dataset_root import ALPACA, Root
from training_cluster.adapters.dataset_directory import DatasetDirectory


@pytest.fixture
def root(tmp_path: Path) -> Root:
    path = tmp_path / "datasets"
    path.mkdir()
    return Root(path)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ("{", "dataset.json: is not valid JSON"),
        ("[]", "dataset.json: is an array of 0; expected a JSON object"),
        ("[" * 100_000, "dataset.json: is too large; expected at most 64 KiB"),
        ("[" * 50_000, "dataset.json: is not valid JSON"),
        (
            "{}",
            "format is missing; expected one of alpaca, prompt_completion, sharegpt, openai, "
            "preference, kto, text",
        ),
        ({"format": "csv"}, "format is the string 'csv'; expected one of alpaca"),
        ({"format": ["x"]}, "format is an array of 1; expected one of alpaca"),
        ({"format": "text"}, "train is missing; expected the name of a file in the version's"),
        ({"format": "text", "train": ""}, "train is an empty string; expected the name"),
        ({"format": "text", "train": "a\u0000.json"}, "expected the name of a file"),
        ({"format": "text", "train": "a.csv"}, "expected a file that ends in .json or .jsonl"),
        (
            {"format": "text", "train": "a.json", "validation": "./a.json"},
            "validation is the train file; expected a file of its own, or null",
        ),
        (
            {"format": "text", "train": "a.json", "licence": "MIT"},
            "has an unknown key 'licence', did you mean 'license'; expected only format, train",
        ),
        (
            {"format": "alpaca", "train": "a.json", "columns": {"propmt": "q"}},
            "columns names the role 'propmt', did you mean 'prompt'; expected for alpaca one of",
        ),
        (
            {"format": "alpaca", "train": "a.json", "columns": {"prompt": 3}},
            "columns.prompt is the number 3; expected a column name",
        ),
        (
            {"format": "alpaca", "train": "a.json", "columns": {"prompt": "output"}},
            "columns gives 'output' two roles; expected one role a column",
        ),
        ({"format": "text", "train": "a.json", "columns": []}, "columns is an array of 0"),
        ({"format": "text", "train": "a.json", "license": 2}, "license is the number 2"),
        (
            {"format": "text", "train": "a.json"},
            "v1/a.json: cannot be read (No such file or directory); expected a readable file",
        ),
    ],
)
def test_a_flawed_manifest_is_refused_with_its_key(
    root: Root, manifest: object, message: str
) -> None:
    (root.path / "v1").mkdir()
    text = manifest if isinstance(manifest, str) else json.dumps(manifest)
    (root.path / "v1" / "dataset.json").write_text(text)
    assert message in root.refusal()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "v1/train.json: has no rows; expected at least one"),
        ("  \n\n", "v1/train.json: has no rows; expected at least one"),
        ("[ ]", "v1/train.json: has no rows; expected at least one"),
        ('{}\n{"a": ', "train.json, line 2: is not valid JSON (Expecting value, line 2 col"),
        ('{"a": 1} {"a": 2}', "line 1: has '{\"a\": 2}' after the object; expected one JSON ob"),
        ('{\n"a": 1}', "line 1: is not valid JSON"),
        ("3", "line 1: is the number 3; expected a JSON object"),
        ("[{}, 3]", "row 2: is the number 3; expected a JSON object"),
        ("[{}, {]", "row 2: is not valid JSON"),
        ("[{},\n]", "row 2: is not valid JSON (Expecting value, line 2 column 1)"),
        ("[{} {}]", "row 1: is followed by '{'; expected a comma and the next row"),
        ("[{}, {}", "row 2: is where the file breaks off; expected a comma"),
        ("[{}] x", "v1/train.json: has 'x' after the array; expected nothing there"),
        ('[{"a": 1, "a": 2}]', "row 1: the key 'a' occurs twice in one object"),
        ('{"a": NaN}', "line 1: NaN is not a JSON value"),
        ('{"a": "\\ud800"}', "line 1: holds the lone surrogate \\ud800; expected whole char"),
        ('[{"a": ["\\udfff"]}]', "row 1: holds the lone surrogate \\udfff"),
        (b'{}\n{"a": "\xff"}', "line 2: byte 7 (0xff) is not UTF-8; expected text"),
        (b'[{"a": "\xff"}]', "train.json: byte 8 (0xff) is not UTF-8"),
        (b"\xef\xbb\xbf[{}]", "train.json: starts with a byte order mark; expected UTF-8"),
        ("[" * 100_000, "row 1: is nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "line 1: Exceeds the limit"),
    ],
)
def test_a_file_that_does_not_parse_is_refused_with_the_place(
    root: Root, content: str | bytes, message: str
) -> None:
    raw = content if isinstance(content, bytes) else content.encode()
    root.add(raw.replace(b"{}", b'{"text": "A good row."}'), format="text")
    assert message in root.refusal()


def test_both_json_forms_are_read_whatever_the_extension_says(root: Root) -> None:
    line = json.dumps(ALPACA)
    root.add(f"{line}\r\n\r\n{line}", version="lines", file="train.json")
    root.add(f" \n[{line},\n{line}]\n", version="array", file="train.jsonl")
    assert [root.registry.resolve(name).rows for name in ("lines", "array")] == [2, 2]


def test_a_huge_array_is_refused_with_the_way_out(root: Root) -> None:
    root.add([ALPACA] * 1000)
    root.registry = DatasetDirectory((root.path,), largest_array_bytes=1024)
    assert "expected at most 0.0 MiB, or jsonl, which has no limit" in root.refusal()
    root.add("\n".join([json.dumps(ALPACA)] * 1000))
    assert root.registry.resolve("v1").rows == 1000


def test_a_column_the_manifest_names_must_be_there(root: Root) -> None:
    root.add([ALPACA], columns={"system": "persona"})
    assert root.refusal() == (
        "v1/train.json, column 'persona': is in no row, though dataset.json names it for system; "
        "expected one of the columns there are: input, instruction, output"
    )


def test_columns_may_have_names_of_their_own(root: Root) -> None:
    columns = {"prompt": "question", "response": "answer", "query": "context"}
    root.add([{"question": "Hi", "answer": "Hello.", "context": "morning"}], columns=columns)
    assert root.registry.resolve("v1").columns == columns
