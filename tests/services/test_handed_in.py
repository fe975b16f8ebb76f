"""What is told of datasets in the event log, how they are found again, and what of them can go."""

from __future__ import annotations

import asyncio

import pytest

from tests.factories import ALICE
from tests.services.test_datasets import Shelf, shelf, stream
from training_cluster.domain.dataset import DatasetState, NewDataset
from training_cluster.domain.dataset_errors import DatasetInUse, DatasetNotFound, DatasetNotReady
from training_cluster.domain.errors import InvalidRequest, UnknownDataset
from training_cluster.domain.prune import PruneKind
from training_cluster.services.handed_in import HandedIn
from training_cluster.services.uploads import WHOLE, Uploads
from training_cluster.store import events

__all__ = ["shelf"]


class Attic:
    """The household's datasets and uploads, as pruning sees them."""

    def __init__(self, shelf: Shelf) -> None:
        database, clock = shelf.household.database, shelf.household.clock
        self.uploads = Uploads(database, shelf.files, shelf.service, clock)
        self._handed_in = HandedIn(database, shelf.files, shelf.service, self.uploads)
        self._clock = clock

    async def found(self, kind: PruneKind = PruneKind.DATASETS, user: str | None = None):
        return await self._handed_in.find(kind, self._clock.now(), user)

    async def prune(self, kind: PruneKind = PruneKind.DATASETS) -> list[bool]:
        return [await self._handed_in.remove(item) for item in await self.found(kind)]


async def told(shelf: Shelf) -> list[tuple[str, dict]]:
    found = await shelf.household.database.read(lambda c: events.page(c, 0, 100))
    return [(e.type.value, e.data) for e in found if e.type.value.startswith("dataset.")]


async def test_the_life_of_a_dataset_is_in_the_event_log(shelf):
    made = await shelf.ready(name="faq")
    shelf.inspector.error = "line 1 holds a secret"
    await shelf.ready(name="bad")
    await shelf.service.delete(made.id, ALICE)
    log = await told(shelf)
    assert [kind for kind, _ in log] == [
        *("dataset.created", "dataset.ready", "dataset.created"),
        *("dataset.invalid", "dataset.deleted"),
    ]
    assert log[0][1] == {
        "dataset": "faq@v1.0", "dataset_id": made.id, "by": "alice", "origin": "upload"
    }  # fmt: skip
    assert log[-1][1]["by"] == "alice"
    assert "secret" not in str(log), "rows are not for everybody"


async def test_a_dataset_is_found_by_the_hash_of_what_came(shelf):
    content = bytes([0xAB]) * 32  # the inspector's hash is the content in hexadecimal figures
    await shelf.ready(content, name="first")
    second = await shelf.ready(content, name="second")
    third = await shelf.ready(bytes([0xCD]) * 32, name=content.hex())
    assert (await shelf.service.get(content.hex())).id == second.id, "no name stands for a hash"
    await shelf.service.delete(second.id, ALICE)
    await shelf.service.delete((await shelf.service.get("first")).id, ALICE)
    assert (await shelf.service.get(content.hex())).id == third.id


async def test_a_name_that_is_nearly_right_is_suggested(shelf):
    await shelf.ready(name="support-faq")
    for key, said in (
        ("suport-faq", "Did you mean 'support-faq'"),
        ("support-faq@v9", "v9 is not"),
    ):
        with pytest.raises(UnknownDataset) as caught:
            await shelf.household.submit(dataset_version=key)
        assert said in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("suport", "did you mean 'support'?"),
        ("v1.0", "jobs name it as it is"),
        ("xyz", "lists them"),
    ],
)
async def test_who_looks_for_what_is_not_there_learns_what_is(shelf, key, said):
    await shelf.add(name="support")
    with pytest.raises(DatasetNotFound) as caught:
        await shelf.service.get(key)
    assert said in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"format": "alpacca"}, "'alpacca' is no format, did you mean 'alpaca'"),
        ({"columns": {"answer": "x"}}, "'answer' is no role of a column"),
    ],
)
async def test_a_format_there_is_none_of_is_refused_before_anything_is_sent(shelf, asked, said):
    with pytest.raises(InvalidRequest, match=said) as caught:
        await shelf.service.require_plain(NewDataset(user="alice", **asked))
    assert "one of" in (caught.value.problems[0].expected or "")


async def test_who_looks_into_what_is_not_ready_is_told_how_to_learn_why(shelf):
    shelf.inspector.error = "no rows"
    bad = await shelf.ready(name="bad")
    with pytest.raises(DatasetNotReady) as caught:
        await shelf.service.preview(bad.id, 3)
    assert "says why" in (caught.value.hint or "")


async def test_tokens_that_could_not_be_counted_are_told_of(shelf):
    made = await shelf.ready(name="faq", model="lab/elsewhere")
    assert made.report.get("remarks", []) == [], "a job has nothing to be warned of"
    assert made.report["notes"] == [
        "no tokens were counted: the tokenizer of lab/elsewhere is not on this machine"
    ]


async def test_what_nobody_refers_to_can_be_pruned_and_nothing_else(shelf):
    used, free = await shelf.ready(b"1", name="used"), await shelf.ready(b"2")
    overview = await shelf.household.submit(dataset_version="used")
    attic = Attic(shelf)
    [item] = await attic.found()
    assert (item.name, item.user, item.key) == (free.label, "alice", free.id)
    assert item.bytes > 0
    assert await attic.found(user="bob") == []
    assert await attic.prune() == [True]
    assert await attic.prune() == []
    assert shelf.on_disk() == {used.train_file}
    assert (await shelf.household.job(overview.job.id)).spec.dataset_version == "used@v1.0"


async def test_what_came_into_use_between_looking_and_pruning_stays(shelf):
    made = await shelf.ready(name="faq")
    attic = Attic(shelf)
    [item] = await attic.found()
    await shelf.household.submit(dataset_version="faq")
    assert await attic._handed_in.remove(item) is False
    with pytest.raises(DatasetInUse):
        await shelf.service.delete(made.id, ALICE)


async def test_a_file_two_versions_share_is_freed_once(shelf):
    await shelf.ready(b"1", name="a")
    await shelf.ready(b"1", name="b")
    sizes = [item.bytes for item in await Attic(shelf).found()]
    assert sizes[0] > 0
    assert sizes[1] == 0


async def test_uploads_that_broke_off_are_listed_and_pruned(shelf):
    attic = Attic(shelf)
    begun = await attic.uploads.create(NewDataset(user="alice", filename="a.jsonl"), ALICE, 10)
    shelf.files.incoming(begun.upload.id).write_bytes(b"half")
    assert await attic.uploads.unfinished("bob", 10) == []
    [listed] = await attic.uploads.unfinished(None, 10)
    assert (listed.id, listed.received_bytes, listed.total_bytes) == (begun.upload.id, 4, 10)
    [item] = await attic.found(PruneKind.UPLOADS)
    assert (item.name, item.bytes) == ("a.jsonl", 4)
    assert await attic.prune(PruneKind.UPLOADS) == [True]
    assert shelf.on_disk() == set()


async def test_an_upload_that_comes_to_its_end_while_it_is_cancelled_stays(shelf, monkeypatch):
    attic, may_adopt = Attic(shelf), asyncio.Event()
    issued = await attic.uploads.create(NewDataset(user="alice", name="faq"), ALICE, 4)
    take_over, adopt = attic.uploads._take_over, shelf.service.adopt
    came: list[asyncio.Task] = []

    async def adopt_later(*asked):
        await may_adopt.wait()
        return await adopt(*asked)

    async def take_over_and_let_adopt(upload_id):
        if upload_id in attic.uploads._completing:
            may_adopt.set()
        await take_over(upload_id)

    async def take_over_and_receive(upload_id):
        await take_over(upload_id)
        monkeypatch.setattr(attic.uploads, "_take_over", take_over_and_let_adopt)
        came.append(asyncio.create_task(attic.uploads.receive(upload_id, WHOLE, stream(b"rows"))))
        while upload_id not in attic.uploads._completing:
            await asyncio.sleep(0.005)

    monkeypatch.setattr(shelf.service, "adopt", adopt_later)
    monkeypatch.setattr(attic.uploads, "_take_over", take_over_and_receive)
    await attic.uploads.cancel(issued.upload.id)
    may_adopt.set()
    assert (await came[0]).done
    shelf.inspector.may.set()
    assert (await shelf.service.wait("faq", 5)).state is DatasetState.READY
    assert await shelf.content("faq") == b"rows"
