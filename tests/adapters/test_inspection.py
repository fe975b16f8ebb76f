"""What the worker makes of a file that was handed in: its format, its rows, its report."""

from __future__ import annotations

import asyncio
import json
import os
from functools import partial
from pathlib import Path

import psutil
import pytest

from training_cluster.adapters.dataset_directory.inspection import ProcessInspector
from training_cluster.domain.dataset import Split
from training_cluster.domain.dataset_errors import InspectorDied
from training_cluster.ports import InspectionTask

from .inspection_parts import inspected, lines, rows_of, table

ALPACA = {"instruction": "Add", "input": "1 and 2", "output": "3"}
PAIR = {"prompt": "Hi", "completion": "Hello"}
OPENAI = {
    "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
}
SHAREGPT = {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}
PREFERENCE = {"prompt": "Hi", "chosen": "Hello", "rejected": "Go"}
KTO = {"prompt": "Hi", "completion": "Hello", "label": True}
OPENAI_PREFERENCE = {
    "input": {
        "messages": [
            {"role": "system", "content": "Be kind"},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Yes?"},
            {"role": "user", "content": "Who are you?"},
        ]
    },
    "preferred_output": [{"role": "assistant", "content": "A queue"}],
    "non_preferred_output": [{"role": "assistant", "content": "Nobody"}],
}


@pytest.fixture
def look(tmp_path: Path):
    """Have some bytes inspected."""
    return partial(inspected, tmp_path)


@pytest.mark.parametrize(
    ("row", "format_name", "columns"),
    [
        (ALPACA, "alpaca", {"prompt": "instruction", "query": "input", "response": "output"}),
        (PAIR, "prompt_completion", {"prompt": "prompt", "response": "completion"}),
        (
            {"input": "Hi", "output": "Hello"},
            "prompt_completion",
            {"prompt": "input", "response": "output"},
        ),
        (OPENAI, "openai", {"messages": "messages"}),
        (SHAREGPT, "sharegpt", {"messages": "conversations"}),
        (
            PREFERENCE,
            "preference",
            {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"},
        ),
        (KTO, "kto", {"prompt": "prompt", "response": "completion", "kto_tag": "label"}),
        ({"text": "Once"}, "text", {"prompt": "text"}),
    ],
)
def test_a_format_is_found_out_and_the_file_is_trained_from_as_it_is(
    look, row, format_name, columns
):
    for content, filename in ((lines(row, row), "a.jsonl"), (json.dumps([row]).encode(), "a.json")):
        found = look(content, filename)
        assert found.error is None, found.error
        assert (found.format, dict(found.columns)) == (format_name, columns)
        assert found.train_file == found.original
        assert found.original.startswith(found.sha256)


@pytest.mark.parametrize("row", [ALPACA, PAIR, PREFERENCE, KTO, {"text": "Once, upon\na time"}])
def test_a_csv_says_the_same_as_its_rows_in_jsonl(look, tmp_path, row):
    plain, found = look(lines(row)), look(table(row), "rows.csv")
    assert found.error is None, found.error
    assert (found.format, found.columns) == (plain.format, plain.columns)
    assert rows_of(tmp_path, found.train_file) == [row]


def test_a_parquet_file_says_the_same_as_its_rows_in_jsonl(look, tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    rows = [OPENAI, OPENAI]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    found = look((tmp_path / "rows.parquet").read_bytes(), "rows.parquet")
    assert found.error is None, found.error
    assert (found.format, found.rows) == ("openai", 2)
    assert rows_of(tmp_path, found.train_file) == rows


def test_openais_preferences_become_rows_the_trainer_knows(look, tmp_path):
    found = look(lines(OPENAI_PREFERENCE))
    assert found.error is None, found.error
    assert found.format == "preference"
    assert rows_of(tmp_path, found.train_file) == [
        {
            "system": "Be kind",
            "history": [["Hi", "Yes?"]],
            "instruction": "Who are you?",
            "input": "",
            "chosen": "A queue",
            "rejected": "Nobody",
        }
    ]


def test_preferences_between_whole_conversations_are_told_apart_by_their_last_turn(look, tmp_path):
    asked = [{"role": "user", "content": "Hi"}]
    row = {
        "chosen": [*asked, {"role": "assistant", "content": "Hello"}],
        "rejected": [*asked, {"role": "assistant", "content": "Go"}],
    }
    [made] = rows_of(tmp_path, look(lines(row)).train_file)
    assert (made["instruction"], made["chosen"], made["rejected"]) == ("Hi", "Hello", "Go")


def test_a_labelled_conversation_becomes_a_row_of_kto(look, tmp_path):
    found = look(lines({**OPENAI, "label": False}))
    [made] = rows_of(tmp_path, found.train_file)
    assert found.format == "kto"
    assert (made["instruction"], made["output"], made["kto_tag"]) == ("Hi", "Hello", False)


def test_bad_lines_are_told_by_number_and_the_first_is_the_error(look):
    content = lines(PAIR) + b"{broken\n" + lines({"prompt": "", "completion": "x"}, PAIR, {})
    found = look(content)
    assert found.error is not None
    assert found.error.startswith("line 2: is not valid JSON")
    assert found.error.endswith("(and 2 more bad rows)")
    told = found.report["bad_rows"]
    assert told["count"] == 3
    assert [each.partition(":")[0].partition(",")[0] for each in told["first"]] == [
        "line 2", "line 3", "line 5",
    ]  # fmt: skip
    assert found.report["rows"] == 2


def test_a_file_of_bad_lines_has_a_short_report(look):
    found = look(b"nothing\n" * 5000)
    assert found.report["bad_rows"]["count"] == 5000
    assert len(found.report["bad_rows"]["first"]) == 20


@pytest.mark.parametrize(
    ("content", "filename", "said"),
    [
        (b"", "a.jsonl", "is empty"),
        (b"\n \n", "a.jsonl", "is empty"),
        (b"[]", "a.json", "has no rows"),
        (b"\x1f\x8b\x08rest", "a.jsonl.gz", "is packed (gzip)"),
        (b"PK\x03\x04rest", "a.zip", "is packed (zip)"),
        (b"\x00\x01\x02" * 9, "a.bin", "is binary"),
        (b"PAR1" + b"x" * 40, "a.parquet", "cannot be read as parquet"),
        (b"prompt,prompt\na,b\n", "a.csv", "line 1: is no header"),
        (b"prompt,completion\na,b,c\n", "a.csv", "line 2: has 3 cells; expected 2"),
        (b'prompt,completion\n"a,b\n', "a.csv", "is not valid csv"),
        (b"prompt,completion\n\xff,b\n", "a.csv", "not UTF-8"),
        (lines({"a": 1}), "a.jsonl", "has the columns a, which fit no format"),
        (lines(PAIR, {"prompt": 1, "completion": "x"}), "a.jsonl", "line 2, column 'prompt'"),
        (b'[{"text": "a"}, nonsense]', "a.json", "row 2"),
    ],
)
def test_what_cannot_be_used_is_said_where_it_stands(look, content, filename, said):
    found = look(content, filename)
    assert found.error is not None
    assert said in found.error
    assert found.train_file is None
    assert len(found.sha256) == 64


def test_somebody_may_say_format_and_columns(look):
    row = {"frage": "Hi", "antwort": "Hello"}
    named = {"prompt": "frage", "response": "antwort"}
    found = look(lines(row), format="prompt_completion", columns=named)
    assert found.error is None, found.error
    assert dict(found.columns) == named
    assert "did you mean 'alpaca'" in (look(lines(row), format="alpacca").error or "")
    wrong = look(lines(row), format="prompt_completion", columns={"promt": "frage"}).error
    assert "did you mean 'prompt'" in (wrong or "")


def test_a_share_of_the_rows_is_held_back_the_same_rows_each_time(look, tmp_path):
    rows = [{"text": f"row {number}"} for number in range(50)]
    first = look(lines(*rows), split=Split(0.2, seed=7))
    again = look(lines(*rows), split=Split(0.2, seed=7))
    other = look(lines(*rows), split=Split(0.2, seed=8))
    assert (first.rows, first.validation_rows) == (40, 10)
    assert first.validation_file == again.validation_file != other.validation_file
    train, held = (rows_of(tmp_path, name) for name in (first.train_file, first.validation_file))
    key = lambda row: row["text"]  # noqa: E731
    assert sorted([*train, *held], key=key) == sorted(rows, key=key)
    assert "has one row" in (look(lines(rows[0]), split=Split(0.5)).error or "")


def test_the_report_counts_duplicates_lengths_and_columns(look):
    report = look(lines(PAIR, PAIR, {"prompt": "x" * 300, "completion": "y"})).report
    assert report["duplicates"] == 1
    assert report["columns"] == {"prompt": "a string", "completion": "a string"}
    assert report["characters"]["longest"] == 302
    assert report["characters"]["histogram"] == [
        {"at_most": 8, "rows": 2},
        {"at_most": 512, "rows": 1},
    ]
    assert report["tokens"] is None


def test_tokens_are_counted_as_the_model_counts_them(look, tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    rows = [{"text": "one two three"}, {"text": "word " * 3000}]
    tokens = look(lines(*rows), tokenizer=tmp_path).report["tokens"]
    assert (tokens["shortest"], tokens["longest"]) == (3, 3000)
    assert tokens["over_long"] == {"than": 2048, "rows": 1}


async def test_a_small_file_that_stands_for_a_huge_one_does_not_fill_the_disk(tmp_path):
    """A kilobyte of parquet that becomes 10 GB of lines, where the whole disk is to stay free."""
    import pyarrow as pa
    from pyarrow import parquet

    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 10_000), pa.array(["a" * (1 << 20)]))
    parquet.write_table(pa.table({"text": texts}), tmp_path / "bomb", compression="zstd")
    assert (tmp_path / "bomb").stat().st_size < 10_000
    (tmp_path / "made").mkdir()
    task = InspectionTask(
        file=tmp_path / "bomb",
        filename="bomb.parquet",
        folder=tmp_path / "made",
        keep_free_bytes=1 << 60,
    )
    with pytest.raises(InspectorDied, match="the disk is full"):
        await ProcessInspector(dict(os.environ)).inspect(task)


async def test_a_worker_that_dies_is_told_with_its_last_words(tmp_path):
    task = InspectionTask(file=tmp_path / "none", filename="a.jsonl", folder=tmp_path)
    with pytest.raises(InspectorDied, match="FileNotFoundError"):
        await ProcessInspector(dict(os.environ)).inspect(task)


async def test_rows_of_a_file_that_went_meanwhile_are_told_to_be_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="none"):
        await ProcessInspector(dict(os.environ)).first_rows(tmp_path / "none.jsonl", 1)


async def test_a_worker_is_ended_with_whoever_waits_for_it(tmp_path):
    fifo = tmp_path / "never"
    os.mkfifo(fifo)
    task = InspectionTask(file=fifo, filename="a.jsonl", folder=tmp_path)
    inspecting = asyncio.create_task(ProcessInspector(dict(os.environ)).inspect(task))

    def workers() -> list[psutil.Process]:
        return [each for each in psutil.Process().children() if "inspection" in str(each.cmdline())]

    while not workers():
        await asyncio.sleep(0.01)
    inspecting.cancel()
    await asyncio.wait({inspecting})
    assert inspecting.cancelled()
    assert not workers()
