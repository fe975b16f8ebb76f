"""Datasets that people hand in, and the jobs that wait for them, over a real store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.factories import ALICE
from tests.fakes import FakeDatasets
from training_cluster.domain.dataset import (
    DatasetState,
    DatasetVersion,
    NewDataset,
    name_from,
    next_version,
)
from training_cluster.domain.dataset_errors import (
    DatasetInUse,
    DatasetNotFound,
    DatasetNotReady,
    InspectorDied,
    NameTaken,
)
from training_cluster.domain.errors import Forbidden, InvalidDataset, InvalidRequest, UnknownDataset
from training_cluster.domain.job import JobState
from training_cluster.domain.principal import Principal, Role, Via
from training_cluster.ports import Dataset, Findings, InspectionTask
from training_cluster.services.awaited_datasets import AwaitedDatasets
from training_cluster.services.dataset_checks import DatasetChecks
from training_cluster.services.datasets import Datasets
from training_cluster.store import datasets as stored

BOB = Principal("bob", Role.SUBMITTER, Via.TOKEN)


class ScriptedInspector:
    """Finds what it is told to, once it may."""

    def __init__(self) -> None:
        self.may = asyncio.Event()
        self.error: str | None = None
        self.dies = False
        self.format = "text"
        self.tasks: list[InspectionTask] = []

    async def inspect(self, task: InspectionTask) -> Findings:
        self.tasks.append(task)
        await self.may.wait()
        if self.dies:
            raise InspectorDied("the worker that reads datasets died: MemoryError")
        content = task.file.read_bytes()
        name = f"{content.hex()}.jsonl"
        return Findings(
            bytes=len(content),
            sha256=content.hex(),
            original=name,
            report={},
            format=self.format,
            columns={"prompt": "text"},
            rows=1,
            train_file=name,
            error=self.error,
        )

    async def first_rows(self, file: Path, most: int) -> list[dict]:
        return [{"text": file.read_text()}][:most]


class OneFolder(FakeDatasets):
    """v1.0 and nothing else is registered."""

    def resolve(self, version: str) -> Dataset:
        if version != "v1.0":
            raise UnknownDataset(f"{version!r} is not a registered dataset version")
        return super().resolve(version)


async def stream(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


class Shelf:
    """The dataset services of a household."""

    def __init__(self, household) -> None:
        self.household = household
        self.inspector = ScriptedInspector()
        self.files = household.files
        self.files.make()
        database, clock = household.database, household.clock
        self.checks = DatasetChecks(database, self.files, self.inspector, clock)
        choice = household.choice
        choice.folders = OneFolder()
        self.service = Datasets(database, self.files, choice.folders, self.inspector, clock)
        self.awaited = AwaitedDatasets(database, choice, household.trainer, clock)
        self.service.on_new = self.checks.wake
        self.checks.on_checked = self._checked
        self.awaited.on_admitted = household.dispatcher.wake

    def _checked(self) -> None:
        self.service.tell()
        self.awaited.wake()

    async def add(self, content: bytes = b"rows", **asked):
        return await self.service.receive(stream(content), NewDataset(**{"user": "alice", **asked}))

    async def ready(self, content: bytes = b"rows", **asked):
        added = await self.add(content, **asked)
        self.inspector.may.set()
        return await self.service.wait(added.id, 5)

    async def content(self, key: str) -> bytes:
        with await self.service.content(key) as file:
            return file.read()

    def on_disk(self) -> set[str]:
        return {
            path.name
            for name in ("files", "incoming")
            for path in (self.files.folder / name).iterdir()
        }


@pytest.fixture
async def shelf(household) -> AsyncIterator[Shelf]:
    shelf = Shelf(household)
    loops = (shelf.checks, shelf.awaited, household.dispatcher)
    for loop in loops:
        await loop.start()
    yield shelf
    for loop in loops:
        await loop.stop()


@pytest.mark.parametrize(
    ("filename", "name"),
    [
        ("support.jsonl", "support"),
        ("C:\\data\\my rows (2).train.json", "my-rows-2"),
        ("../../etc/passwd", "passwd"),
        (".jsonl", "jsonl"),
        ("", "dataset"),
        ("日本語.jsonl", "dataset"),
        ("x" * 300 + ".csv", "x" * 48),
    ],
)
def test_a_file_gives_its_dataset_a_name(filename, name):
    assert name_from(filename) == name


def test_versions_count_on():
    assert next_version([]) == "v1.0"
    assert next_version(["v1.0", "v3.1", "draft"]) == "v4.0"


async def test_a_name_gets_versions_and_each_stays_what_it_was(shelf):
    first, second = await shelf.add(b"1", name="faq"), await shelf.add(b"2", name="faq")
    assert (first.label, second.label) == ("faq@v1.0", "faq@v2.0")
    for key, found in (("faq", second), ("faq@v1.0", first), ("1", first), (first.id, first)):
        assert (await shelf.service.get(key)).id == found.id
    with pytest.raises(NameTaken, match=r"faq@v1\.0 exists"):
        await shelf.add(name="faq", version="v1.0")


async def test_a_name_belongs_to_whoever_used_it_first(shelf):
    await shelf.add(name="faq")
    with pytest.raises(NameTaken, match="alice's"):
        await shelf.add(user="bob", name="faq")
    made = await shelf.add(user="bob", filename="faq.jsonl")
    assert made.label == "faq-2@v1.0", "a name nobody chose gives way"


@pytest.mark.parametrize("name", ["7", "v1.0", "a/b", "", "0199a0b4-5c1e-7c3a-9f7e-3f1d5b7c9e21"])
async def test_a_name_that_could_mean_something_else_is_refused(shelf, name):
    with pytest.raises(InvalidRequest):
        await shelf.add(name=name)
    assert shelf.on_disk() == set()


async def test_two_versions_of_the_same_content_share_a_file(shelf):
    first, second = await shelf.ready(name="a"), await shelf.ready(name="b")
    assert first.train_file == second.train_file
    await shelf.service.delete(first.id, ALICE)
    assert shelf.on_disk() == {second.train_file}
    await shelf.service.delete(second.id, ALICE)
    assert shelf.on_disk() == set()


async def test_a_deleted_version_is_gone_and_its_number_is_not_given_again(shelf):
    first = await shelf.ready(name="faq")
    with pytest.raises(Forbidden):
        await shelf.service.delete("faq", BOB)
    await shelf.service.delete("faq", ALICE)
    for key in ("faq", first.id, "faq@v1.0"):
        with pytest.raises(DatasetNotFound):
            await shelf.service.get(key)
    assert (await shelf.add(name="faq")).version == "v2.0"


async def test_a_stream_that_breaks_leaves_nothing(shelf):
    async def broken() -> AsyncIterator[bytes]:
        yield b"half"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await shelf.service.receive(broken(), NewDataset(user="alice"))
    assert shelf.on_disk() == set()
    assert await shelf.service.page() == []


async def test_an_invalid_dataset_says_why_and_no_job_takes_it(shelf):
    shelf.inspector.error = "line 1: is not valid JSON"
    found = await shelf.ready(name="bad")
    assert (found.state, found.error) == (DatasetState.INVALID, "line 1: is not valid JSON")
    with pytest.raises(InvalidDataset, match="line 1"):
        await shelf.household.submit(dataset_version="bad")
    with pytest.raises(DatasetNotReady):
        await shelf.service.preview("bad", 1)
    assert await shelf.content("bad") == b"rows"


async def test_a_dataset_over_which_the_inspector_dies_again_and_again_is_given_up(shelf):
    shelf.inspector.dies = True
    added = await shelf.add(name="bomb")
    shelf.inspector.may.set()
    for tries in (1, 2, 3):
        await shelf.household.until(lambda tries=tries: len(shelf.inspector.tasks) == tries)
        await shelf.household.until(lambda: added.id not in shelf.checks._checking)
        shelf.checks.wake()
    found = await shelf.service.wait("bomb", 5)
    assert (found.state, found.error) == (
        DatasetState.INVALID,
        "it cannot be read: the worker that reads datasets died: MemoryError",
    )


async def test_rows_and_content_can_be_looked_at(shelf):
    added = await shelf.service.add_rows([{"text": "é"}], NewDataset(user="alice", name="rows"))
    assert await shelf.content(added.id) == '{"text": "é"}\n'.encode()
    shelf.inspector.may.set()
    await shelf.service.wait("rows", 5)
    assert await shelf.service.preview("rows", 1) == [{"text": '{"text": "é"}\n'}]


async def test_content_is_found_though_its_check_gives_it_another_name_meanwhile(
    shelf, monkeypatch
):
    added = await shelf.add(b"old", name="rows")
    get = shelf.service.get

    async def get_and_have_it_checked(key: str) -> DatasetVersion:
        found = await get(key)
        shelf.inspector.may.set()
        while shelf.files.incoming(added.id).exists():
            await asyncio.sleep(0.005)
        return found

    monkeypatch.setattr(shelf.service, "get", get_and_have_it_checked)
    assert await shelf.content(added.id) == b"old"


async def test_rows_that_are_deleted_while_their_reader_starts_are_not_found(shelf, monkeypatch):
    added = await shelf.ready(b"old", name="rows")
    read = shelf.inspector.first_rows

    async def read_later(file: Path, most: int) -> list[dict]:
        await shelf.service.delete(added.id, ALICE)
        return await read(file, most)

    monkeypatch.setattr(shelf.inspector, "first_rows", read_later)
    with pytest.raises(DatasetNotFound):
        await shelf.service.preview(added.id, 1)


async def test_rows_that_somebody_removed_from_the_disk_are_told_to_be_missing(shelf):
    added = await shelf.ready(b"old", name="rows")
    shelf.files.stored(added.train_file).unlink()
    with pytest.raises(DatasetNotReady, match="missing"):
        await shelf.service.preview(added.id, 1)


async def test_a_dataset_nobody_knows_is_refused_with_what_there_is(shelf):
    with pytest.raises(UnknownDataset, match="nothing-like-it"):
        await shelf.household.submit(dataset_version="nothing-like-it")


async def test_a_job_waits_while_its_dataset_is_checked_and_then_trains_on_exactly_it(shelf):
    await shelf.add(b"old", name="faq")
    asked = await shelf.household.submit(dataset_version="faq")
    assert asked.waiting.reason.code == "dataset"
    assert "faq@v1.0" in asked.waiting.reason.message
    await shelf.add(b"new", name="faq")
    shelf.inspector.may.set()
    job = await shelf.household.reaches(asked.job.number, JobState.RUNNING)
    assert job.spec.dataset_version == "faq@v1.0"
    assert job.disk_bytes > 0, "its need was looked at once it could be known"


async def test_a_job_whose_dataset_is_deleted_while_it_is_looked_at_is_refused(shelf, monkeypatch):
    await shelf.ready(name="faq")
    choice = shelf.household.choice
    choose = choice.choose

    async def choose_then_lose(*asked):
        chosen = await choose(*asked)
        await shelf.service.delete("faq", ALICE)
        return chosen

    monkeypatch.setattr(choice, "choose", choose_then_lose)
    with pytest.raises(UnknownDataset, match=r"faq@v1\.0 was deleted"):
        await shelf.household.submit(dataset_version="faq")


async def test_a_dataset_whose_validation_is_deleted_while_it_is_checked_says_so(shelf):
    rows = await shelf.ready(b"held out", name="eval")
    inspect = shelf.inspector.inspect

    async def inspect_then_lose(task):
        found = await inspect(task)
        await shelf.service.delete(rows.id, ALICE)
        return found

    shelf.inspector.inspect = inspect_then_lose
    found = await shelf.ready(b"rows", name="faq", validation=rows.id)
    assert found.state is DatasetState.INVALID
    assert found.error == "eval@v1.0, which validates it, was deleted"
    assert shelf.on_disk() == set()


async def test_a_waiting_job_keeps_no_device_from_those_behind_it(shelf):
    await shelf.add(name="faq")
    waiting = await shelf.household.submit(dataset_version="faq")
    behind = await shelf.household.submit()
    await shelf.household.reaches(behind.job.number, JobState.RUNNING)
    assert (await shelf.household.job(waiting.job.number)).state is JobState.QUEUED


async def test_a_job_fails_with_its_dataset(shelf):
    shelf.inspector.error = "line 9: is missing"
    await shelf.add(name="bad")
    asked = await shelf.household.submit(dataset_version="bad")
    shelf.inspector.may.set()
    job = await shelf.household.reaches(asked.job.number, JobState.FAILED)
    assert job.error.code == "dataset_invalid"
    assert "line 9" in job.error.message


async def test_a_job_fails_when_the_trainer_cannot_use_what_the_dataset_turns_out_to_be(shelf):
    def check(spec, dataset):
        if dataset is not None:
            raise InvalidRequest("stage sft needs another format")
        return ()

    shelf.household.trainer.check = check
    await shelf.add(name="faq")
    asked = await shelf.household.submit(dataset_version="faq")
    shelf.inspector.may.set()
    job = await shelf.household.reaches(asked.job.number, JobState.FAILED)
    assert (job.error.code, job.error.message) == (
        "dataset_invalid",
        "stage sft needs another format",
    )


async def test_a_job_that_was_paused_while_it_waited_goes_on_with_its_dataset(shelf):
    await shelf.add(name="faq")
    asked = await shelf.household.submit(dataset_version="faq")
    await shelf.household.jobs.pause(asked.job.id, ALICE)
    shelf.inspector.may.set()
    await shelf.service.wait("faq", 5)
    await shelf.household.jobs.resume(asked.job.id, ALICE)
    shelf.awaited.wake()
    await shelf.household.reaches(asked.job.number, JobState.RUNNING)


async def test_a_dataset_is_kept_while_a_job_needs_it(shelf):
    await shelf.ready(name="faq")
    asked = await shelf.household.submit(dataset_version="faq")
    await shelf.household.reaches(asked.job.number, JobState.RUNNING)
    with pytest.raises(DatasetInUse, match="job 1"):
        await shelf.service.delete("faq", ALICE)


async def test_another_dataset_can_validate(shelf):
    held = await shelf.ready(b"held", name="held")
    found = await shelf.ready(b"rows", name="faq", validation="held")
    assert found.validation_file == held.train_file
    assert (found.validation_rows, found.state) == (1, DatasetState.READY)
    shelf.inspector.format = "alpaca"
    misfit = await shelf.ready(b"more", name="faq", validation="held")
    assert "has the format text, this one has alpaca" in (misfit.error or "")


async def test_what_an_earlier_daemon_left_half_done_is_removed_and_what_counts_is_kept(shelf):
    kept, gone = await shelf.ready(b"kept", name="kept"), await shelf.ready(b"gone", name="gone")
    await shelf.service.delete("gone", ALICE)
    shelf.inspector.may.clear()
    waiting = await shelf.add(b"later", name="later")
    shelf.files.incoming("stray").write_bytes(b"half")
    shelf.files.stored(gone.train_file).write_bytes(b"it died before it could remove this")
    shelf.files.stored("unknown.jsonl").write_bytes(b"of a database that was lost")
    database = shelf.household.database
    let_go = await database.read(stored.files_let_go)
    expected = await database.read(stored.in_check)
    assert shelf.files.sweep(let_go, expected) == 2
    assert shelf.on_disk() == {kept.train_file, waiting.id, "unknown.jsonl"}
