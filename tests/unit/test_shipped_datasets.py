"""Promises of the dataset versions that ship with the program."""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from training_cluster.adapters.dataset_directory import DatasetDirectory
from training_cluster.api.schemas import TrainRequest
from training_cluster.ports import Dataset
from training_cluster.resources import shipped
from training_cluster.settings import DeviceSettings, Settings, TrainerSettings

VERSIONS = ("v1.0", "v1.1-messages")


@pytest.fixture(scope="module")
def registry() -> DatasetDirectory:
    return DatasetDirectory((shipped("datasets"),))


def rows(file: Path | None) -> list[dict[str, Any]]:
    assert file is not None
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".json":
        return list(json.loads(text))
    return [json.loads(line) for line in text.splitlines()]


def questions(row: dict[str, Any]) -> Iterator[str]:
    """What a row asks, spelling and punctuation aside."""
    asked = [f"{row['instruction']} {row['input']}"] if "instruction" in row else []
    asked += [turn["content"] for turn in row.get("messages", ()) if turn["role"] == "user"]
    for text in asked:
        yield " ".join(re.findall(r"\w+", text.lower()))


def opening(row: dict[str, Any]) -> str:
    """What a row asks first."""
    return next(questions(row))


def words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.lower()))


def likeness(one: frozenset[str], other: frozenset[str]) -> float:
    """Shared words over all words."""
    return len(one & other) / len(one | other)


def test_the_shipped_versions_are_the_registered_ones(registry: DatasetDirectory) -> None:
    assert registry.versions() == VERSIONS


def test_the_daemon_finds_them_by_its_default_settings() -> None:
    default = Settings.model_fields["dataset_roots"].get_default(call_default_factory=True)
    assert DatasetDirectory(default).versions() == VERSIONS


@pytest.mark.parametrize("version", VERSIONS)
def test_every_shipped_row_passes_the_registry(registry: DatasetDirectory, version: str) -> None:
    dataset = registry.resolve(version)
    assert dataset.rows == len(rows(dataset.train_file))
    assert dataset.description


def test_v1_0_is_alpaca_and_large_enough_to_learn_from(registry: DatasetDirectory) -> None:
    dataset = registry.resolve("v1.0")
    assert dataset.format == "alpaca"
    assert dataset.columns == {"prompt": "instruction", "query": "input", "response": "output"}
    assert dataset.rows >= 360
    assert len(rows(dataset.validation_file)) >= 40
    assert sum(bool(row["input"]) for row in rows(dataset.train_file)) >= 20


def test_v1_1_has_conversations_of_several_turns(registry: DatasetDirectory) -> None:
    dataset = registry.resolve("v1.1-messages")
    assert dataset.format == "openai"
    assert dataset.columns == {"messages": "messages"}
    assert dataset.rows >= 120
    assert len(rows(dataset.validation_file)) >= 15
    conversations = rows(dataset.train_file) + rows(dataset.validation_file)
    roles = [[turn["role"] for turn in row["messages"]] for row in conversations]
    assert all(turns.count("user") >= 2 for turns in roles)
    assert all("system" not in turns[1:] for turns in roles)
    assert sum(turns[0] == "system" for turns in roles) >= 15


@pytest.mark.parametrize("version", VERSIONS)
def test_no_question_is_asked_twice(registry: DatasetDirectory, version: str) -> None:
    dataset = registry.resolve(version)
    asked = Counter(map(opening, rows(dataset.train_file) + rows(dataset.validation_file)))
    assert [text for text, times in asked.items() if times > 1] == []


@pytest.mark.parametrize("version", VERSIONS)
def test_no_answer_is_given_twice(registry: DatasetDirectory, version: str) -> None:
    answered = Counter(
        answer for row in all_rows(registry.resolve(version)) for answer in long_answers(row)
    )
    assert [text for text, times in answered.items() if times > 1] == []


def all_rows(dataset: Dataset) -> list[dict[str, Any]]:
    return rows(dataset.train_file) + rows(dataset.validation_file)


def long_answers(row: dict[str, Any]) -> list[str]:
    """The answers of a row, leaving out those so short that they may well recur."""
    if "output" in row:
        answers = [row["output"]]
    else:
        answers = [turn["content"] for turn in row["messages"] if turn["role"] == "assistant"]
    return [answer for answer in answers if len(answer) > 40]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_validation_split_shares_nothing_with_training(
    registry: DatasetDirectory, version: str
) -> None:
    dataset = registry.resolve(version)
    trained = {opening(row) for row in rows(dataset.train_file)}
    assert trained.isdisjoint(opening(row) for row in rows(dataset.validation_file))
    learned = {answer for row in rows(dataset.train_file) for answer in long_answers(row)}
    held_out = {answer for row in rows(dataset.validation_file) for answer in long_answers(row)}
    assert learned.isdisjoint(held_out)


def test_no_two_examples_of_v1_0_are_nearly_the_same(registry: DatasetDirectory) -> None:
    known = [(words(opening(r)), words(r["output"]), r) for r in all_rows(registry.resolve("v1.0"))]
    close = [
        (one["instruction"], other["instruction"])
        for index, (question, answer, one) in enumerate(known)
        for other_question, other_answer, other in known[:index]
        if likeness(question, other_question) > 0.6 and likeness(answer, other_answer) > 0.5
    ]
    assert close == []


@pytest.mark.parametrize("version", VERSIONS)
def test_no_address_leads_away_from_this_machine(registry: DatasetDirectory, version: str) -> None:
    text = json.dumps(all_rows(registry.resolve(version)))
    assert set(re.findall(r"https?://([^/:\s]+)", text)) == {"localhost"}


def test_the_readme_counts_right(registry: DatasetDirectory) -> None:
    readme = (shipped("datasets") / "README.md").read_text(encoding="utf-8")
    for version in VERSIONS:
        dataset = registry.resolve(version)
        held_out = len(rows(dataset.validation_file))
        assert re.search(rf"`{re.escape(version)}` .*\| {dataset.rows} / {held_out} ", readme)


def answers(registry: DatasetDirectory) -> Iterator[str]:
    """Every answer of every shipped version."""
    for version in VERSIONS:
        for row in all_rows(registry.resolve(version)):
            turns = row.get("messages", ())
            yield from (turn["content"] for turn in turns if turn["role"] == "assistant")
            yield row.get("output", "")


def json_objects(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects shown in a text, wherever they stand in it."""
    for brace in re.finditer(r"\{", text):
        with contextlib.suppress(ValueError):
            yield json.JSONDecoder().raw_decode(text, brace.start())[0]


def test_every_request_they_teach_is_one_the_api_takes(registry: DatasetDirectory) -> None:
    fields = set(TrainRequest.model_fields)
    shown = [body for text in answers(registry) for body in json_objects(text)]
    requests = [body for body in shown if body and body.keys() <= fields]
    assert len(requests) >= 20
    for body in requests:
        TrainRequest.model_validate(body)


def test_every_setting_they_name_exists(registry: DatasetDirectory) -> None:
    sections: dict[str, type[BaseModel]] = {"devices": DeviceSettings, "trainer": TrainerSettings}
    known = {"CONFIG", "URL", *(name.upper() for name in Settings.model_fields)}
    for section, model in sections.items():
        known |= {f"{section}__{name}".upper() for name in model.model_fields}
    named = {
        name
        for text in answers(registry)
        for name in re.findall(r"TRAINING_CLUSTER_([A-Z_]*[A-Z])", text)
    }
    assert len(named) >= 8
    assert named <= known


def test_every_port_they_name_is_the_documented_one_or_a_stated_other(
    registry: DatasetDirectory,
) -> None:
    ports = Counter(port for text in answers(registry) for port in re.findall(r"host:(\d+)", text))
    assert ports.most_common(1)[0][0] == str(Settings.model_fields["port"].default)
    assert set(ports) <= {"23478", "9000"}
