"""Every notification arrives, on the schedule, and no receiver is in another's way."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.factories import ALICE, BOB, a_gpu, a_new_job
from tests.fakes import FakeClock, FakeInventory, FakeNotifier, Told
from tests.services.household import Household
from training_cluster.domain.errors import StoreUnavailable
from training_cluster.domain.event import EventType
from training_cluster.domain.job import JobState
from training_cluster.domain.principal import Principal
from training_cluster.domain.webhook import Delivery, DeliveryState, Webhook
from training_cluster.ports import EndpointFormat, Receipt
from training_cluster.services import deliveries as deliveries_module
from training_cluster.services.webhooks import NewWebhook
from training_cluster.store import deliveries, events, jobs
from training_cluster.store.database import Connection

URL = "https://lab.example/hook"
OTHER = "https://other.example/hook"
HOUR = 3600
SCHEDULE = [0, 5, 300, 30 * 60, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR]


class Office(Household):
    """A household that works through its outbox when it is told to."""

    async def subscribe(self, url: str = URL, *wanted: str, by: Principal = ALICE) -> Webhook:
        made = await self.webhooks.create(NewWebhook(url=url, events=wanted), by)
        return made.webhook

    async def happens(self, kind: EventType = EventType.DEVICE_QUARANTINED) -> None:
        """Something without a job happens."""
        data = {"uuid": "GPU-00000000", "reason": "lost"}
        await self.database.write(lambda c: events.append(c, self.clock.now(), kind, data=data))

    async def a_job_ends(self, **fields: object) -> int:
        """A job is taken and cancelled before it started; returns its number."""

        def change(c: Connection) -> int:
            now = self.clock.now()
            number = jobs.insert(c, a_new_job(now=now, **fields))
            job = jobs.find(c, str(number))
            jobs.end_unstarted(c, job, JobState.CANCELLED, now, None)
            return number

        return await self.database.write(change)

    async def deliver(self) -> None:
        """Try what is due, to the end, until nothing is due."""
        while await self.due():
            await self.deliveries.run_once()
            await self.deliveries.idle()

    async def due(self) -> list[Delivery]:
        now = self.clock.now()
        return await self.database.read(
            lambda c: deliveries.due(c, now, per_webhook=1000, limit=1000)
        )

    async def deliver_through_time(self) -> None:
        """Let days pass until the outbox is empty."""
        while True:
            await self.deliver()
            now = self.clock.now()
            moment = await self.database.read(lambda c, now=now: deliveries.next_at(c, now))
            if moment is None:
                return
            self.clock.time = moment

    async def all_of(self, hook: Webhook) -> list[Delivery]:
        return await self.database.read(lambda c: deliveries.page(c, hook.id, limit=5000))


def make(folder: Path, notifier: FakeNotifier, clock: FakeClock | None = None) -> Office:
    return Office(folder, FakeInventory(a_gpu(0)), clock=clock, notifier=notifier)


@pytest.fixture
def notifier() -> FakeNotifier:
    return FakeNotifier()


@pytest.fixture
async def office(tmp_path: Path, notifier: FakeNotifier) -> AsyncIterator[Office]:
    made = make(tmp_path, notifier)
    await made.devices.read()
    yield made
    await made.close()


@pytest.mark.parametrize(
    "receipt",
    [
        Receipt(500),
        Receipt(302, "redirects are not followed"),
        Receipt(404),
        Receipt(429),
        Receipt(429, retry_after_seconds=1),
        Receipt(None, "no answer within 15 s"),
        Receipt(None, "connection refused"),
        Receipt(None, "refused: not a public address"),
    ],
    ids=str,
)
async def test_a_receiver_that_fails_gets_exactly_the_schedule(office, notifier, receipt):
    hook = await office.subscribe()
    await office.happens()
    notifier.answer = lambda _: receipt
    await office.deliver_through_time()
    times = [told.time for told in notifier.told]
    assert [b - a for a, b in zip([times[0], *times], times, strict=False)] == SCHEDULE
    assert len({told.message_id for told in notifier.told}) == 1
    (delivery,) = await office.all_of(hook)
    assert (delivery.state, delivery.tries) == (DeliveryState.FAILED, 10)
    assert (delivery.last_status, delivery.last_error) == (receipt.status, receipt.error)


async def test_a_receiver_that_comes_back_is_told_once(office, notifier):
    hook = await office.subscribe()
    await office.happens()
    notifier.answer = lambda _: Receipt(204 if len(notifier.told) == 4 else 503)
    await office.deliver_through_time()
    assert len(notifier.told) == 4
    (delivery,) = await office.all_of(hook)
    assert delivery.state is DeliveryState.DELIVERED
    assert delivery.delivered_at == office.clock.now()


async def test_retry_after_is_honoured_when_it_is_longer(office, notifier):
    await office.subscribe()
    await office.happens()
    notifier.answer = lambda _: Receipt(429, retry_after_seconds=1000)
    await office.deliver()
    for seconds, told in ((999, 1), (1, 2), (999, 2), (1, 3)):
        office.clock.advance(seconds)
        await office.deliver()
        assert len(notifier.told) == told


async def test_a_receiver_that_is_gone_is_never_called_again(office, notifier):
    hook = await office.subscribe()
    other = await office.subscribe(OTHER)
    await office.happens()
    notifier.answer = lambda told: Receipt(410 if told.url == URL else 200)
    await office.deliver()
    await office.happens()
    await office.deliver_through_time()
    assert len(notifier.to(URL)) == 1
    assert len(notifier.to(OTHER)) == 2
    (delivery,) = await office.all_of(hook)
    assert delivery.state is DeliveryState.DROPPED
    assert "410" in (await office.webhooks.get(hook.id, ALICE)).disabled_reason
    assert (await office.webhooks.get(other.id, ALICE)).disabled_at is None


async def test_a_slow_receiver_delays_neither_another_nor_the_loop(office, notifier):
    await office.subscribe()
    await office.subscribe(OTHER)
    for _ in range(100):
        await office.happens()
    answered = asyncio.Event()

    async def hang(_: Told) -> Receipt:
        await answered.wait()
        return Receipt(200)

    notifier.answer = lambda told: hang(told) if told.url == URL else Receipt(200)
    await office.deliveries.start()
    await office.until(lambda: len(notifier.to(OTHER)) == 100)
    assert len(notifier.to(URL)) == 4
    answered.set()
    await office.until(lambda: len(notifier.to(URL)) == 100)


async def test_many_dead_receivers_leave_room_for_the_living(office, notifier):
    for number in range(45):
        await office.subscribe(f"https://dead{number}.example/hook")
    await office.subscribe(OTHER, by=BOB)
    for _ in range(5):
        await office.happens()
    under_way: Counter[str] = Counter()

    async def hang(told: Told) -> Receipt:
        under_way[told.url] += 1
        await asyncio.Event().wait()
        raise AssertionError

    notifier.answer = lambda told: hang(told) if "dead" in told.url else Receipt(200)
    await office.deliveries.start()
    await office.until(lambda: len(notifier.to(OTHER)) == 5)
    await office.until(lambda: under_way.total() == len(office.deliveries._tasks))
    await office.deliveries.run_once()  # now the dead have all the room they can get
    await office.happens()
    office.deliveries.wake()
    await office.until(lambda: len(notifier.to(OTHER)) == 6)
    assert under_way.total() <= 64
    assert len(under_way) == 45, "each of the dead has its try"


async def test_what_happens_to_a_job_is_told_one_after_the_other(office, notifier):
    await office.subscribe()
    await office.a_job_ends()
    under_way, most = 0, 0

    async def slowly(_: Told) -> Receipt:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.01)
        under_way -= 1
        return Receipt(200)

    notifier.answer = slowly
    await office.deliver()
    assert most == 1
    told = [told.document for told in notifier.told]
    assert [document["type"] for document in told] == ["job.queued", "job.cancelled"]
    assert [document["data"]["job_sequence"] for document in told] == [1, 2]


async def test_a_later_event_does_not_wait_for_one_that_is_tried_again(office, notifier):
    await office.subscribe()
    await office.a_job_ends()
    notifier.answer = lambda told: Receipt(500 if b"job.queued" in told.body else 200)
    await office.deliver()
    assert [told.document["type"] for told in notifier.told] == ["job.queued", "job.cancelled"]


async def test_every_final_event_of_500_jobs_arrives_exactly_once(tmp_path, notifier):
    office = make(tmp_path, notifier)
    await office.subscribe(URL, "job.cancelled")
    await office.subscribe(OTHER)
    dice = random.Random(1)
    successes: Counter[str] = Counter()

    async def moody(told: Told) -> Receipt:
        await asyncio.sleep(dice.random() / 500)
        if dice.random() < 0.3:
            return dice.choice([Receipt(500), Receipt(None, "no answer"), Receipt(301)])
        successes[told.message_id] += 1
        return Receipt(200)

    notifier.answer = moody
    for _ in range(250):
        await office.a_job_ends()
    await office.deliveries.start()
    await office.until(lambda: successes.total() > 100)
    assert successes.total() < 750
    await office.close()

    office = make(tmp_path, notifier, office.clock)
    for _ in range(250):
        await office.a_job_ends()
    await office.deliver_through_time()
    await office.close()
    assert set(successes.values()) == {1}
    finals = Counter(
        told.document["data"]["job"]["number"]
        for told in {told.message_id: told for told in notifier.to(URL)}.values()
    )
    assert finals == Counter(range(1, 501))
    assert successes.total() == 1500, "each final event twice, each submission once"


async def test_a_try_cut_off_by_the_daemons_end_is_made_again_with_the_same_message(
    tmp_path, notifier
):
    office = make(tmp_path, notifier)
    await office.subscribe()
    number = await office.a_job_ends()
    notifier.answer = lambda _: asyncio.Event().wait()  # type: ignore[assignment, return-value]
    await office.deliveries.run_once()
    await office.until(lambda: len(notifier.told) == 1)
    await office.close()

    office = make(tmp_path, notifier, office.clock)
    notifier.answer = lambda _: Receipt(200)
    await office.deliver()
    await office.close()
    cut, again, last = notifier.told
    assert (again.message_id, again.body) == (cut.message_id, cut.body)
    assert last.document["data"]["job"]["number"] == number


async def test_every_try_and_replay_says_what_the_first_one_said(office, notifier):
    hook = await office.subscribe(URL, "job.queued")
    await office.submit(lora_name="first")
    notifier.answer = lambda _: Receipt(500)
    await office.deliver()
    await office.reaches(1, JobState.RUNNING)
    await office.jobs.cancel("1", ALICE)
    await office.deliver_through_time()
    (delivery,) = await office.all_of(hook)
    notifier.answer = lambda _: Receipt(200)
    await office.webhooks.replay(hook.id, ALICE, delivery.id)
    await office.deliver()
    assert len(notifier.told) == 11
    assert len({(told.message_id, told.body) for told in notifier.told}) == 1
    assert notifier.told[0].document["data"]["job"]["status"] == "queued"


async def test_what_did_not_arrive_is_replayed_together(office, notifier):
    hook = await office.subscribe()
    notifier.answer = lambda _: Receipt(500)
    await office.happens()
    await office.deliver_through_time()
    since = office.clock.now() + 1
    office.clock.advance(2)
    for _ in range(3):
        await office.happens()
    await office.deliver_through_time()
    notifier.answer = lambda _: Receipt(200)
    notifier.told.clear()
    assert await office.webhooks.replay_undelivered(hook.id, ALICE, since) == 3
    await office.deliver()
    assert len(notifier.told) == 3
    assert await office.webhooks.replay_undelivered(hook.id, ALICE, 0) == 1


async def test_a_receiver_is_not_told_twice_because_the_store_was_away(
    office, notifier, monkeypatch
):
    hook = await office.subscribe()
    await office.happens()
    monkeypatch.setattr(deliveries_module, "_AFTER_ERROR_SECONDS", 0.001)
    settle, failures = deliveries.settle, iter(range(3))

    def fails_at_first(*arguments: object) -> bool:
        if next(failures, None) is not None:
            raise StoreUnavailable
        return settle(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(deliveries, "settle", fails_at_first)
    await office.deliver()
    assert len(notifier.told) == 1
    assert next(failures, None) is None
    assert [one.state for one in await office.all_of(hook)] == [DeliveryState.DELIVERED]


async def test_an_error_of_ours_counts_as_a_failed_try_and_loses_nothing(
    office, notifier, monkeypatch
):
    hook = await office.subscribe()
    await office.happens()

    def broken(kind: EndpointFormat, document: object) -> bytes:
        raise ValueError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(notifier, "render", broken)
        await office.deliver()
    (delivery,) = await office.all_of(hook)
    assert (delivery.state, delivery.tries) == (DeliveryState.PENDING, 1)
    assert "could not be made" in delivery.last_error
    office.clock.advance(5)
    await office.deliver()
    assert len(notifier.told) == 1


async def test_a_webhook_without_its_address_fails_in_words(office, notifier):
    hook = await office.subscribe()
    await office.addresses.remove(hook.id)
    await office.happens()
    await office.deliver()
    (delivery,) = await office.all_of(hook)
    assert "address" in delivery.last_error
    assert notifier.told == []


async def test_what_waits_for_a_deleted_webhook_is_dropped(office, notifier):
    hook = await office.subscribe()
    await office.happens()
    notifier.answer = lambda _: Receipt(500)
    await office.deliver()
    await office.webhooks.delete(hook.id, ALICE)
    await office.deliver_through_time()
    assert len(notifier.told) == 1
    assert [one.state for one in await office.all_of(hook)] == [DeliveryState.DROPPED]


async def test_the_loop_wakes_for_news_and_for_the_next_try(office, notifier):
    await office.subscribe()
    office.database.listen(office.deliveries.notice)
    await office.deliveries.start()
    await office.until(lambda: office.deliveries.delay() is None)
    notifier.answer = lambda _: Receipt(500)
    await office.happens()
    await office.until(lambda: office.deliveries.delay() == 5)
    office.clock.advance(5)
    office.deliveries.wake()
    await office.until(lambda: len(notifier.told) == 2)
    await office.until(lambda: office.deliveries.delay() == 60), "no longer than a minute"


async def test_facts_that_concern_no_webhook_wake_nobody(office):
    office.database.listen(office.deliveries.notice)
    await office.happens()
    await asyncio.sleep(0.01)
    assert not office.deliveries._wake.is_set(), "nobody has subscribed"
    await office.webhooks.create(NewWebhook(url=URL), ALICE)
    await office.happens(EventType.DEVICE_HELD)
    await asyncio.sleep(0.01)
    assert not office.deliveries._wake.is_set(), "nobody is told of that"
    await office.happens()
    await asyncio.sleep(0.01)
    assert office.deliveries._wake.is_set()


async def test_only_the_events_and_the_user_that_were_asked_for_are_told(office, notifier):
    made = NewWebhook(url=URL, events=("job.cancelled",), only_user="bob")
    await office.webhooks.create(made, ALICE)
    await office.a_job_ends(user="alice")
    number = await office.a_job_ends(user="bob")
    await office.happens()
    await office.deliver()
    told = [told.document for told in notifier.told]
    assert [(one["type"], one["data"]["job"]["number"]) for one in told] == [
        ("job.cancelled", number)
    ]


async def test_signatures_go_by_the_secrets_of_the_moment(office, notifier):
    hook = await office.subscribe()
    await office.happens()
    await office.deliver()
    await office.webhooks.rotate(hook.id, ALICE)
    await office.happens()
    await office.deliver()
    office.clock.advance(24 * HOUR)
    await office.happens()
    await office.deliver()
    first, second = "whsec_secret1", "whsec_secret2"
    assert [told.secrets for told in notifier.told] == [(first,), (second, first), (second,)]
