"""Parts of a file stay on the disk until they are the file, whoever looks at them."""

from __future__ import annotations

import asyncio
import os
from types import SimpleNamespace

import pytest

from tests.factories import ALICE, BOB, ROOT
from tests.fakes import FakeClock
from training_cluster.domain.dataset import NewDataset
from training_cluster.domain.dataset_errors import UploadNotFound
from training_cluster.domain.errors import InvalidRequest, WrongState
from training_cluster.services import part_uploads
from training_cluster.services.part_uploads import KEPT_SECONDS, PartUploads


class Received:
    """Stands where datasets are taken in."""

    def __init__(self) -> None:
        self.content = b""
        self.times = 0
        self.made: dict[str, SimpleNamespace] = {}

    async def receive(self, stream, new, dataset_id):
        self.content = b"".join([data async for data in stream])
        self.times += 1
        await asyncio.sleep(0)
        return self.made.setdefault(dataset_id, SimpleNamespace(id=dataset_id, deleted_at=None))

    async def ever(self, dataset_id):
        return self.made.get(dataset_id)


@pytest.fixture
def received():
    return Received()


def uploads(tmp_path, received, clock=None):
    return PartUploads(tmp_path / "uploads", received, clock or FakeClock())


async def add(service, upload, content):
    incoming = await service.open_part(upload)
    await incoming.write(content)
    return await service.keep(incoming)


async def test_another_daemon_goes_on_with_what_has_come(tmp_path, received):
    service = uploads(tmp_path, received)
    announced = await service.announce("alice", "a.jsonl", "fine-tune", 6)
    second = await add(service, announced, b"def")
    later = uploads(tmp_path, received)
    found = await later.get(announced.id, ALICE)
    assert found == announced
    first = await add(later, found, b"abc")
    await later.complete(found, [first, second], NewDataset(user="alice"), None)
    assert received.content == b"abcdef"
    assert [path.name for path in (tmp_path / "uploads" / found.id).iterdir()] == ["upload.json"]


async def test_who_asks_again_whether_it_is_complete_is_told_the_same(tmp_path, received):
    service = uploads(tmp_path, received)
    announced = await service.announce("alice", "a.jsonl", "fine-tune", 3)
    part, new = await add(service, announced, b"abc"), NewDataset(user="alice")
    made = await asyncio.gather(
        *(service.complete(announced, [part], new, None) for _ in range(3)),
    )
    later = uploads(tmp_path, received)
    again = await later.announced(announced.id, ALICE)
    made.append(await later.complete(again, [part], new, None))
    assert {each.id for each in made} == {announced.id}
    assert received.times == 1
    for what in (later.get(announced.id, ALICE), later.get(announced.id, ROOT)):
        with pytest.raises(WrongState, match="is completed"):
            await what
    received.made[announced.id].deleted_at = 1.0
    with pytest.raises(UploadNotFound, match="was deleted"):
        await later.complete(again, [part], new, None)


async def test_a_part_that_broke_off_is_no_part(tmp_path, received):
    service = uploads(tmp_path, received)
    announced = await service.announce("alice", "a.jsonl", "fine-tune", 3)
    broken = await service.open_part(announced)
    await broken.write(b"abc")
    await broken.finish()
    name = broken.path.with_suffix("").name
    with pytest.raises(InvalidRequest, match="not all of these are parts"):
        await service.complete(announced, [name], NewDataset(user="alice"), None)
    await service.drop(broken)
    assert not broken.path.exists()


async def test_the_uploads_of_others_do_not_exist(tmp_path, received):
    service = uploads(tmp_path, received)
    announced = await service.announce("alice", "a.jsonl", "fine-tune", 3)
    with pytest.raises(UploadNotFound):
        await service.get(announced.id, BOB)
    assert await service.get(announced.id, ROOT) == announced
    for name in ("", "..", "../x", announced.id[:-1], "0" * 36):
        with pytest.raises(UploadNotFound):
            await service.get(name, ROOT)


async def test_an_upload_nobody_comes_back_to_is_thrown_away_after_a_day(tmp_path, received):
    clock = FakeClock()
    service = uploads(tmp_path, received, clock)
    announced = await service.announce("alice", "a.jsonl", "fine-tune", 3)
    await add(service, announced, b"abc")
    clock.advance(KEPT_SECONDS - 1)
    service.sweep()
    assert (await service.get(announced.id, ALICE)) == announced
    clock.advance(2)
    with pytest.raises(UploadNotFound):
        await service.get(announced.id, ALICE)
    await service.announce("alice", "b.jsonl", "fine-tune", 3)
    assert not (tmp_path / "uploads" / announced.id).exists()


async def test_more_than_was_announced_does_not_fill_the_disk(tmp_path, received):
    service = PartUploads(tmp_path / "uploads", received, FakeClock(), most_bytes=100)
    with pytest.raises(InvalidRequest, match="at most 100 bytes"):
        await service.announce("alice", "a.jsonl", "fine-tune", 101)
    announced = await service.announce("alice", "a.jsonl", "fine-tune", 100)
    for _ in range(5):
        await add(service, announced, b"x" * (1 << 20))
    with pytest.raises(InvalidRequest, match="100 were announced"):
        await service.open_part(announced)


async def test_parts_may_come_at_the_same_time(tmp_path, received, monkeypatch):
    service = uploads(tmp_path, received)
    announced = await service.announce("alice", "a.jsonl", "fine-tune", 6)
    other = await service.open_part(announced)
    await other.write(b"abc")
    look = os.scandir

    def look_and_name(place):
        found = list(look(place))
        other.path.replace(other.path.with_suffix(".kept"))
        return found

    monkeypatch.setattr(os, "scandir", look_and_name)
    incoming = await service.open_part(announced)
    assert incoming.path.exists()
    for each in (incoming, other):
        await service.drop(each)


@pytest.mark.parametrize("when", ["before a part", "within a part", "while it is completed"])
async def test_an_upload_that_is_cancelled_meanwhile_is_not_found(tmp_path, received, when):
    service, new = uploads(tmp_path, received), NewDataset(user="alice")
    announced = await service.announce("alice", "a.jsonl", "fine-tune", 3)
    part = await add(service, announced, b"abc")
    incoming = await service.open_part(announced)
    await incoming.write(b"def")
    await service.cancel(announced)
    steps = {
        "before a part": lambda: service.open_part(announced),
        "within a part": lambda: service.keep(incoming),
        "while it is completed": lambda: received.receive(
            part_uploads._read_all([tmp_path / "uploads" / announced.id / part], None), new, "x"
        ),
    }
    with pytest.raises(UploadNotFound, match="cancelled"):
        await steps[when]()
    await service.drop(incoming)
