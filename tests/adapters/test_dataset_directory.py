"""Promises of the dataset registry: finding versions, staying inside, remembering verdicts."""

from __future__ import annotations

import builtins
import hashlib
import json
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.adapters.dataset_root import ALPACA, Root
from training_cluster.adapters.dataset_directory import DatasetDirectory
from training_cluster.domain.errors import InvalidDataset, UnknownDataset
from training_cluster.ports import DatasetRegistry


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
