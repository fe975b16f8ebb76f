"""Promises of the dataset registry: what it accepts, what it refuses and how it says so."""

from __future__ import annotations

import builtins
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from training_cluster.adapters.dataset_directory import DatasetDirectory
from training_cluster.domain.errors import InvalidDataset, UnknownDataset
from training_cluster.ports import DatasetRegistry

ALPACA = {"instruction": "Say hello.", "input": "", "output": "Hello."}
PAIR = {"instruction": "Say hello.", "chosen": "Hello.", "rejected": "No."}


def talk(*turns: tuple[object, object], keys: tuple[str, str] = ("role", "content")) -> list[Any]:
    return [dict(zip(keys, turn, strict=True)) for turn in turns]


def sharegpt(*turns: tuple[object, object]) -> dict[str, Any]:
    return {"conversations": talk(*turns, keys=("from", "value"))}


def openai(*turns: tuple[object, object]) -> dict[str, Any]:
    return {"messages": talk(*turns)}


class Root:
    """A dataset root to be filled by a test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.registry = DatasetDirectory((path,))

    def add(
        self, rows: object, *, version: str = "v1", file: str = "train.json", **manifest: object
    ) -> Path:
        """Write a version; `rows` is a list for a JSON array, else the file's text or bytes."""
        folder = self.path / version
        folder.mkdir(exist_ok=True)
        content = rows if isinstance(rows, str | bytes) else json.dumps(rows)
        (folder / file).write_bytes(content.encode() if isinstance(content, str) else content)
        self.describe(version, **{"format": "alpaca", "train": file, **manifest})
        return folder

    def describe(self, version: str, **manifest: object) -> None:
        (self.path / version / "dataset.json").write_text(json.dumps(manifest))

    def refusal(self, version: str = "v1") -> str:
        with pytest.raises(InvalidDataset) as caught:
            self.registry.resolve(version)
        assert caught.value.problems[0].field == "dataset_version"
        return caught.value.message


@pytest.fixture
def root(tmp_path: Path) -> Root:
    path = tmp_path / "datasets"
    path.mkdir()
    return Root(path)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files opened since, however they were opened."""
    names: list[str] = []
    real_os_open, real_open = os.open, builtins.open

    def os_open(path: Any, *args: Any, **kwargs: Any) -> int:
        names.append(Path(path).name)
        return real_os_open(path, *args, **kwargs)

    def plain_open(file: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(file, int):
            names.append(Path(file).name)
        return real_open(file, *args, **kwargs)

    monkeypatch.setattr(os, "open", os_open)
    monkeypatch.setattr(builtins, "open", plain_open)
    return names


def test_the_registry_is_a_dataset_registry(root: Root) -> None:
    registry: DatasetRegistry = root.registry
    assert registry.versions() == ()


def test_a_version_is_described_by_what_its_files_hold(root: Root) -> None:
    folder = root.add([ALPACA, ALPACA], validation="held_out.jsonl", description="Greetings")
    (folder / "held_out.jsonl").write_text(json.dumps(ALPACA) + "\n")
    dataset = root.registry.resolve("v1")
    assert (dataset.version, dataset.format, dataset.rows) == ("v1", "alpaca", 2)
    assert dataset.train_file == folder.resolve() / "train.json"
    assert dataset.validation_file == folder.resolve() / "held_out.jsonl"
    assert dataset.columns == {"prompt": "instruction", "query": "input", "response": "output"}
    assert dataset.description == "Greetings"
    assert len(dataset.sha256) == hashlib.sha256().digest_size * 2


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
                ("human", "2+2?"), ("function_call", "{}"), ("observation", "4"), ("gpt", "Four.")
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


def test_columns_may_have_names_of_their_own(root: Root) -> None:
    columns = {"prompt": "question", "response": "answer", "query": "context"}
    root.add([{"question": "Hi", "answer": "Hello.", "context": "morning"}], columns=columns)
    assert root.registry.resolve("v1").columns == columns


def test_both_json_forms_are_read_whatever_the_extension_says(root: Root) -> None:
    line = json.dumps(ALPACA)
    root.add(f"{line}\r\n\r\n{line}", version="lines", file="train.json")
    root.add(f" \n[{line},\n{line}]\n", version="array", file="train.jsonl")
    assert [root.registry.resolve(name).rows for name in ("lines", "array")] == [2, 2]


def test_versions_are_listed_sorted_and_only_folders_with_a_manifest_count(root: Root) -> None:
    for name in ("v2", "v1.1-messages", "v1"):
        root.add([ALPACA], version=name)
    (root.path / "notes").mkdir()
    (root.path / ".hidden").mkdir()
    (root.path / ".hidden" / "dataset.json").write_text("{}")
    (root.path / "README.md").write_text("no version")
    assert root.registry.versions() == ("v1", "v1.1-messages", "v2")


def test_the_first_root_that_has_a_version_wins_and_missing_roots_are_skipped(
    root: Root, tmp_path: Path
) -> None:
    root.add([ALPACA])
    other = Root(tmp_path / "other")
    other.path.mkdir()
    other.add([ALPACA, ALPACA])
    other.add([ALPACA], version="only-here")
    registry = DatasetDirectory((tmp_path / "missing", root.path, other.path))
    assert registry.resolve("v1").rows == 1
    assert registry.versions() == ("only-here", "v1")


def test_an_unknown_version_lists_what_exists_and_guesses(root: Root) -> None:
    root.add([ALPACA], version="v1.0")
    root.add([ALPACA], version="poems")
    with pytest.raises(UnknownDataset) as caught:
        root.registry.resolve("v1.O")
    assert caught.value.message == (
        "'v1.O' is not a registered dataset version, did you mean 'v1.0'; registered: poems, v1.0"
    )
    assert caught.value.problems[0].field == "dataset_version"
    assert caught.value.problems[0].expected == "one of: poems, v1.0"


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../outside",
        "v1/../../outside",
        "/etc",
        "v1/",
        "v1\n",
        "v1\0",
        "-rf",
        ".hidden",
        "x" * 65,
        "x" * 100_000,
        "\ud800",
        "v1 ",
        "${oc.env:HOME}",
        "~root",
        "REMOTE:evil/repo",
        "ONLINE",
    ],
)
def test_a_hostile_name_is_just_unknown(root: Root, tmp_path: Path, name: str) -> None:
    root.add([ALPACA])
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "dataset.json").write_text('{"format": "text", "train": "t.json"}')
    with pytest.raises(UnknownDataset) as caught:
        root.registry.resolve(name)
    assert len(caught.value.message) < 1000
    caught.value.message.encode()


def test_a_file_that_leads_out_of_the_folder_is_refused(root: Root, tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text(json.dumps([ALPACA]))
    folder = root.add([ALPACA])
    (folder / "link.json").symlink_to(secret)
    for name in ("link.json", "../../secret.json", str(secret)):
        root.describe("v1", format="alpaca", train=name)
        expected = f"v1/{name}: is outside the version's folder; expected a file in it"
        assert root.refusal() == expected


def test_a_folder_that_leads_out_of_the_root_is_refused(root: Root, tmp_path: Path) -> None:
    elsewhere = Root(tmp_path)
    (root.path / "linked").symlink_to(elsewhere.add([ALPACA], version="elsewhere"))
    assert "is outside the version's folder" in root.refusal("linked")


def test_a_link_inside_the_folder_is_followed_to_its_real_file(root: Root) -> None:
    folder = root.add([ALPACA])
    (folder / "newest.json").symlink_to(folder / "train.json")
    root.describe("v1", format="alpaca", train="newest.json")
    assert root.registry.resolve("v1").train_file == folder.resolve() / "train.json"


def test_a_root_behind_a_link_is_fine(root: Root, tmp_path: Path) -> None:
    root.add([ALPACA])
    (tmp_path / "alias").symlink_to(root.path)
    assert DatasetDirectory((tmp_path / "alias",)).resolve("v1").rows == 1


@pytest.mark.timeout(20)
def test_a_pipe_or_a_folder_in_place_of_a_file_is_refused_without_waiting(root: Root) -> None:
    folder = root.add([ALPACA])
    os.mkfifo(folder / "pipe.json")
    (folder / "folder.json").mkdir()
    for name in ("pipe.json", "folder.json"):
        root.describe("v1", format="alpaca", train=name)
        assert root.refusal() == f"v1/{name}: is not a regular file; expected a file with rows"


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ("{", "dataset.json: is not valid JSON"),
        ("[]", "dataset.json: is an array of 0; expected a JSON object"),
        ("[" * 100_000, "dataset.json: is too large; expected at most 64 KiB"),
        ("[" * 50_000, "dataset.json: is not valid JSON"),
        ("{}", "format is missing; expected one of alpaca, sharegpt, openai, preference, text"),
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


def test_a_column_the_manifest_names_must_be_there(root: Root) -> None:
    root.add([ALPACA], columns={"system": "persona"})
    assert root.refusal() == (
        "v1/train.json, column 'persona': is in no row, though dataset.json names it for system; "
        "expected one of the columns there are: input, instruction, output"
    )


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


def test_a_huge_array_is_refused_with_the_way_out(root: Root) -> None:
    root.add([ALPACA] * 1000)
    root.registry = DatasetDirectory((root.path,), largest_array_bytes=1024)
    assert "expected at most 0.0 MiB, or jsonl, which has no limit" in root.refusal()
    root.add("\n".join([json.dumps(ALPACA)] * 1000))
    assert root.registry.resolve("v1").rows == 1000


def test_the_hash_names_the_content(root: Root) -> None:
    root.add([ALPACA])
    first = root.registry.resolve("v1").sha256
    assert DatasetDirectory((root.path,)).resolve("v1").sha256 == first
    root.add([{**ALPACA, "output": "Hullo."}])
    second = root.registry.resolve("v1").sha256
    root.add([{**ALPACA, "output": "Hullo."}], description="Another manifest")
    third = root.registry.resolve("v1").sha256
    assert len({first, second, third}) == 3


def test_a_repeated_resolve_opens_no_file(root: Root, opened: list[str]) -> None:
    folder = root.add([ALPACA], validation="held_out.json")
    (folder / "held_out.json").write_text(json.dumps([ALPACA]))
    opened.clear()
    dataset = root.registry.resolve("v1")
    assert {"dataset.json", "train.json", "held_out.json"} <= set(opened)
    opened.clear()
    assert [root.registry.resolve("v1") for _ in range(100)] == [dataset] * 100
    assert opened == []


def test_a_refusal_is_remembered_too_and_each_caller_gets_its_own(
    root: Root, opened: list[str]
) -> None:
    root.add([{"instruction": "Hi"}])
    first = root.refusal()
    opened.clear()
    errors = []
    for _ in range(2):
        with pytest.raises(InvalidDataset) as caught:
            root.registry.resolve("v1")
        errors.append(caught.value)
    assert opened == []
    assert errors[0] is not errors[1]
    assert [error.message for error in errors] == [first, first]


def test_an_edit_is_seen_even_when_size_and_time_stay(root: Root) -> None:
    folder = root.add([ALPACA])
    before = root.registry.resolve("v1")
    times = os.stat(folder / "train.json")
    (folder / "train.json").write_text(json.dumps([{**ALPACA, "output": "Howdy."}]))
    os.utime(folder / "train.json", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (folder / "train.json").stat().st_size == times.st_size
    assert root.registry.resolve("v1").sha256 != before.sha256


def test_mending_a_version_is_seen_at_once(root: Root) -> None:
    folder = root.add([ALPACA])
    (folder / "train.json").unlink()
    assert "cannot be read" in root.refusal()
    root.add([ALPACA])
    assert root.registry.resolve("v1").rows == 1
    (folder / "dataset.json").unlink()
    with pytest.raises(UnknownDataset):
        root.registry.resolve("v1")


def test_a_version_that_changes_under_the_reader_is_refused_and_not_remembered(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = root.add([ALPACA] * 3)
    interfere_once(monkeypatch, lambda: (folder / "train.json").write_text(json.dumps([ALPACA])))
    assert root.refusal() == "v1: was changed while it was read; expected files at rest"
    assert root.registry.resolve("v1").rows == 1


def interfere_once(monkeypatch: pytest.MonkeyPatch, interfere: Callable[[], object]) -> None:
    """Run `interfere` when the first row is checked."""
    from training_cluster.adapters.dataset_directory.formats import RowChecker

    real, done = RowChecker.check, threading.Event()

    def check(self: RowChecker, row: Any) -> None:
        if not done.is_set():
            done.set()
            interfere()
        real(self, row)

    monkeypatch.setattr(RowChecker, "check", check)


def test_many_threads_at_once_read_a_version_once(root: Root, opened: list[str]) -> None:
    root.add([ALPACA] * 2000)
    opened.clear()
    ready = threading.Barrier(8)

    def resolve(_: int) -> str:
        ready.wait(timeout=10)
        return root.registry.resolve("v1").sha256

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(resolve, range(8)))) == 1
    assert opened.count("train.json") == 1
