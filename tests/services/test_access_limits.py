"""Failures are counted and denials written down, and neither can be made to grow."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes import FakeClock
from training_cluster.domain.event import EventType
from training_cluster.domain.principal import Principal, Role, Via
from training_cluster.services.access_records import AccessRecords
from training_cluster.services.failures import FailureLimit
from training_cluster.services.tokens import NewToken, Tokens
from training_cluster.store import events
from training_cluster.store.database import Database

ROOT = Principal("root", Role.ADMIN, Via.LOCAL)


def test_the_limit_is_per_address_and_ends_after_its_window():
    limit = FailureLimit(per_address=3, overall=100, seconds=60)
    assert [limit.fail("10.0.0.1", 0.0) for _ in range(4)] == [None, None, None, 60.0]
    assert limit.fail("10.0.0.2", 10.0) is None
    assert limit.fail("10.0.0.1", 45.0) == 15.0
    assert limit.fail("10.0.0.1", 60.0) is None


def test_all_addresses_together_have_a_limit_too():
    limit = FailureLimit(per_address=3, overall=10, seconds=60)
    waits = [limit.fail(f"10.0.0.{n}", 0.0) for n in range(12)]
    assert waits == [None] * 10 + [60.0] * 2


def test_one_host_with_a_network_of_ipv6_is_one_address():
    limit = FailureLimit(per_address=1, overall=100)
    assert limit.fail("2001:db8::1", 0.0) is None
    assert limit.fail("2001:db8::ffff:2", 0.0) is not None
    assert limit.fail("2001:db8:0:1::1", 0.0) is None
    assert limit.fail("::ffff:10.0.0.1", 0.0) is None
    assert limit.fail("10.0.0.1", 0.0) is not None


def test_a_million_addresses_take_no_more_memory_than_a_thousand():
    limit = FailureLimit()
    for number in range(20_000):
        limit.fail(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 0.0)
    assert len(limit._windows) == 1024


class Hall:
    """The records over a real store, with a clock of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.database = Database(folder / "queue.db")
        self.tokens = Tokens(self.database, self.clock)
        self.records = AccessRecords(self.database, self.tokens, self.clock)

    async def told(self) -> list[tuple[str, int]]:
        found = await self.database.read(
            lambda c: events.page(c, 0, 1000, kind=EventType.ACCESS_DENIED)
        )
        return [(event.data["address"], event.data["count"]) for event in found]


@pytest.fixture
async def hall(tmp_path: Path) -> AsyncIterator[Hall]:
    made = Hall(tmp_path)
    yield made
    made.database.close()


async def test_denials_are_told_once_a_minute_with_their_count(hall):
    hall.records.denied("10.0.0.1", "no token")
    await hall.records.run_once()
    assert await hall.told() == [("10.0.0.1", 1)]
    for _ in range(500):
        hall.records.denied("10.0.0.1", "no token")
        await hall.records.run_once()
    assert await hall.told() == [("10.0.0.1", 1)]
    assert hall.records.delay() == 60.0
    hall.clock.advance(60.0)
    await hall.records.run_once()
    assert await hall.told() == [("10.0.0.1", 1), ("10.0.0.1", 500)]
    assert hall.records.delay() is None


async def test_who_knocks_from_everywhere_fills_no_disk(hall):
    for number in range(5000):
        hall.records.denied(f"10.0.{number >> 8}.{number & 255}", "no token")
    hall.records.denied("10.0.0.1", "no token")
    await hall.records.run_once()
    told = dict(await hall.told())
    assert len(told) == 17
    assert told["other addresses"] == 5000 - 16
    assert told["10.0.0.1"] == 2


async def test_use_is_written_once_a_minute_however_often_it_happens(hall):
    issued = await hall.tokens.create(NewToken(user="alice"), ROOT)
    for _ in range(1000):
        assert hall.tokens.verify(issued.text)
        hall.clock.advance(0.01)
    await hall.records.run_once()
    (seen,) = hall.tokens.visible(ROOT)
    assert seen.last_used_at == pytest.approx(hall.clock.now(), abs=0.02)
    hall.tokens.verify(issued.text)
    await hall.records.run_once()
    assert hall.records.delay() == 60.0
    again = Tokens(hall.database, hall.clock)
    await again.load()
    assert again.visible(ROOT)[0].last_used_at == seen.last_used_at
    assert again.verify(issued.text) is not None
