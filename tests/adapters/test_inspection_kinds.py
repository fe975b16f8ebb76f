"""Files as people have them: with a mark of their editor, in another encoding, of another kind."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path

import pytest

from training_cluster.adapters.dataset_directory.formats import FORMATS as CHECKED
from training_cluster.adapters.dataset_directory.inspection.detection import KNOWN
from training_cluster.domain.dataset import FORMATS, ROLES

from .inspection_parts import inspected, lines, rows_of, table

PAIR = {"prompt": "Hi 你好", "completion": "Hello"}
TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
MARK = b"\xef\xbb\xbf"


@pytest.fixture
def look(tmp_path: Path):
    return partial(inspected, tmp_path)


@pytest.mark.parametrize(
    ("content", "filename"),
    [(lines(PAIR, PAIR), "a.jsonl"), (json.dumps([PAIR, PAIR], indent=1).encode(), "a.json")],
)
def test_a_byte_order_mark_is_left_out_of_what_is_trained_on(look, tmp_path, content, filename):
    found = look(MARK + content, filename)
    assert found.error is None
    assert rows_of(tmp_path, found.train_file) == [PAIR, PAIR]
    assert found.sha256 == hashlib.sha256(MARK + content).hexdigest(), "what came is what is kept"


def test_a_marked_file_can_be_split(look, tmp_path):
    from training_cluster.domain.dataset import Split

    found = look(MARK + lines(*[PAIR] * 10), split=Split(0.2))
    assert (found.rows, found.validation_rows) == (8, 2)
    assert rows_of(tmp_path, found.validation_file) == [PAIR, PAIR]


@pytest.mark.parametrize(
    ("content", "filename", "said"),
    [
        (lines(PAIR).decode().encode("utf-16"), "a.jsonl", "is encoded as UTF-16; expected text"),
        (lines(PAIR).decode().encode("utf-16-be"), "a.csv", "is binary, or UTF-16"),
        (b"Once upon a time,\nthere was a queue.", "story.txt", "is plain text"),
        (b"%PDF-1.7 and so on", "a.pdf", "is a PDF"),
        (b"PK\x03\x04rest", "a.xlsx", "is a document of an office program; expected a table"),
        (json.dumps(PAIR, indent=2).encode(), "a.json", "is one JSON object over several lines"),
        (json.dumps({"data": [PAIR]}, indent=2).encode(), "a.json", "expected an array of rows"),
        (b"prompt,completion\nHi,ok\nSch\xf6n,ok\n", "a.csv", "line 3: byte 0xf6 is not UTF-8"),
        (lines({"a b": 1, "": 2}), "a.jsonl", "has the columns '', 'a b', which fit"),
        (lines({}), "a.jsonl", "line 1: is an empty object"),
    ],
)
def test_a_file_of_another_kind_is_told_from_bad_rows(look, content, filename, said):
    found = look(content, filename)
    assert said in (found.error or "")
    assert "more bad rows" not in found.error


def test_prose_in_rows_is_what_a_text_file_should_have_been(look):
    assert look(b'{"text": "Once"}\n', "story.txt").format == "text"


@pytest.mark.parametrize("answer", ['{"a": 1}', '[{"a": 1}]', "[]", '[["a", "b"]]', "{not json"])
def test_an_answer_in_json_stays_text_in_a_csv(look, tmp_path, answer):
    found = look(table({"prompt": "Hi", "completion": answer}), "a.csv")
    assert found.error is None
    assert rows_of(tmp_path, found.train_file) == [{"prompt": "Hi", "completion": answer}]


def test_turns_and_what_holds_them_are_read_from_the_cells_of_a_csv(look, tmp_path):
    asked = {"messages": TURNS[:1]}
    row = {"input": asked, "preferred_output": TURNS[1:], "non_preferred_output": TURNS[1:]}
    found = look(table({name: json.dumps(value) for name, value in row.items()}), "a.csv")
    assert (found.error, found.format) == (None, "preference")
    [made] = rows_of(tmp_path, found.train_file)
    assert (made["instruction"], made["chosen"]) == ("Hi", "Hello")


def test_an_empty_cell_is_no_history(look, tmp_path):
    first = {"instruction": "Hi", "output": "Hello", "history": '[["a", "b"]]'}
    found = look(table(first, {**first, "history": ""}), "a.csv")
    assert found.error is None
    assert [row["history"] for row in rows_of(tmp_path, found.train_file)] == [[["a", "b"]], None]


def test_what_was_said_wrongly_is_no_flaw_of_every_row(look):
    found = look(lines(PAIR, PAIR, PAIR), columns={"chosen": "completion"})
    assert found.error.startswith("columns: columns names the role 'chosen'")
    assert (found.report["bad_rows"]["count"], "more bad rows" in found.error) == (0, False)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"messages": [TURNS[0], {**TURNS[1], "weight": 0}]}], "1 answers have the weight 0"),
        ([{"prompt": "Hi", "chosen": "a", "rejected": "a"}], "in 1 rows the chosen answer is"),
        ([{"prompt": "Hi", "completion": "a", "label": True}], "no row has the label false"),
        ([{**PAIR, "label": 1}], "1 rows have a label of 0 or 1"),
        ([{**PAIR}], None),
    ],
)
def test_good_rows_that_may_not_be_meant_are_remarked_on(look, rows, said):
    found = look(lines(*rows))
    assert found.error is None
    told = found.report["remarks"]
    assert told == [] if said is None else said in told[0]


def test_the_domain_knows_the_formats_that_are_detected_and_checked():
    assert set(FORMATS) == set(KNOWN)
    assert set(ROLES) == {role for each in CHECKED.values() for role in each.roles}
