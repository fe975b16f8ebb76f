"""What a change recorded is told once it is committed, in order, and not otherwise."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest

from tests.factories import NOW, a_new_job
from training_cluster.domain.event import Event, EventType
from training_cluster.domain.webhook import DeliveryState, Webhook
from training_cluster.store import deliveries, events, jobs, webhooks
from training_cluster.store.deliveries import Settled


class Listener:
    def __init__(self, database) -> None:
        self.told: list[Event] = []
        database.listen(self.told.extend)

    @property
    def sequences(self) -> list[int]:
        return [fact.sequence for fact in self.told]


def a_webhook(number=1, **fields):
    values = {"format": "standard", "url": "https://example.org/***", "user": "alice"}
    return Webhook(**{"id": f"wh_{number}", **values, "created_at": NOW, **fields})


def pending(connection):
    found = deliveries.page(connection, "wh_1", limit=10, state=DeliveryState.PENDING)
    return found[::-1]


def due(connection, now):
    return deliveries.due(connection, now, per_webhook=10, limit=10)


async def test_facts_come_in_the_order_of_the_log_and_before_the_callers_know(database):
    listener = Listener(database)
    known = []

    async def record(number):
        event = await database.write(
            lambda c: events.append(c, NOW, EventType.DEVICE_HELD, data={"n": number})
        )
        known.append(event.sequence in listener.sequences)

    await asyncio.gather(*(record(n) for n in range(200)))
    assert known == [True] * 200
    stored = await database.read(lambda c: events.page(c, 0, 1000))
    assert listener.told == stored


async def test_an_undone_change_tells_nothing(database):
    listener = Listener(database)
    chance = random.Random(3)

    def change(connection, fails):
        events.append(connection, NOW, EventType.DEVICE_HELD)
        if fails:
            raise ValueError("undone")

    fates = [chance.random() < 0.5 for _ in range(100)]
    results = await asyncio.gather(
        *(database.write(lambda c, f=f: change(c, f)) for f in fates), return_exceptions=True
    )
    assert [isinstance(result, ValueError) for result in results] == fates
    stored = await database.read(lambda c: events.page(c, 0, 1000))
    assert listener.sequences == [event.sequence for event in stored]
    assert len(stored) == fates.count(False)


async def test_a_job_and_its_own_webhook_are_one_change(database):
    new = a_new_job()
    hook = a_webhook()

    def submit(connection):
        number = jobs.insert(connection, new)
        webhooks.insert(connection, hook, number)
        return number

    number = await database.write(submit)
    waiting = await database.read(pending)
    assert waiting == [], "the webhook came after the event"
    later = await database.write(lambda c: events.append(c, NOW, EventType.JOB_STARTED, number, 1))
    [delivery] = await database.read(pending)
    assert (delivery.webhook_id, delivery.event_sequence) == ("wh_1", later.sequence)
    assert (delivery.job_id, delivery.job_sequence) == (new.id, 1)


async def test_a_job_submitted_with_a_webhook_tells_it_from_the_start(database):
    new = replace(a_new_job(), webhook=a_webhook())
    number = await database.write(lambda c: jobs.insert(c, new))
    for kind in (EventType.JOB_STARTING, EventType.JOB_STARTED, EventType.JOB_COMPLETED):
        await database.write(lambda c, k=kind: events.append(c, NOW, k, number, 1))
    found = await database.read(lambda c: deliveries.page(c, "wh_1", limit=10))
    assert [(d.event_type, d.job_sequence) for d in reversed(found)] == [
        ("job.queued", 1),
        ("job.started", 2),
        ("job.completed", 3),
    ]


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, ["job.queued", "job.completed", "job.queued", "device.quarantined"]),
        ({"events": ("job.completed",)}, ["job.completed"]),
        ({"only_user": "bob"}, ["job.queued"]),
        ({"only_user": "carol"}, []),
    ],
)
async def test_a_standing_webhook_gets_what_it_subscribed_to(database, fields, wanted):
    await database.write(lambda c: webhooks.insert(c, a_webhook(**fields)))
    number = await database.write(lambda c: jobs.insert(c, a_new_job(user="alice")))
    await database.write(lambda c: events.append(c, NOW, EventType.JOB_COMPLETED, number, 1))
    await database.write(lambda c: jobs.insert(c, a_new_job(user="bob")))
    await database.write(lambda c: events.append(c, NOW, EventType.DEVICE_QUARANTINED))
    found = await database.read(pending)
    assert [delivery.event_type for delivery in found] == wanted


async def test_a_disabled_webhook_gets_nothing_more(database):
    await database.write(lambda c: webhooks.insert(c, a_webhook()))
    await database.write(lambda c: jobs.insert(c, a_new_job()))
    assert await database.write(lambda c: webhooks.disable(c, "wh_1", "410 Gone", NOW))
    await database.write(lambda c: jobs.insert(c, a_new_job()))
    [dropped] = await database.read(lambda c: deliveries.page(c, "wh_1", limit=10))
    assert (dropped.state, dropped.last_error) == (DeliveryState.DROPPED, "410 Gone")
    await database.write(lambda c: webhooks.enable(c, "wh_1"))
    await database.write(lambda c: jobs.insert(c, a_new_job()))
    assert len(await database.read(pending)) == 1


async def test_a_try_is_recorded_once(database):
    await database.write(lambda c: webhooks.insert(c, a_webhook()))
    await database.write(lambda c: jobs.insert(c, a_new_job()))
    [delivery] = await database.read(pending)
    failed = Settled(state=DeliveryState.PENDING, next_at=NOW + 5, status=500, error="500")
    assert await database.write(lambda c: deliveries.settle(c, delivery, failed, NOW))
    assert not await database.write(lambda c: deliveries.settle(c, delivery, failed, NOW))
    again = await database.read(lambda c: deliveries.find(c, "wh_1", delivery.id))
    assert (again.tries, again.next_at, again.last_status) == (1, NOW + 5, 500)
    assert await database.read(lambda c: due(c, NOW + 4)) == []
    assert len(await database.read(lambda c: due(c, NOW + 5))) == 1


async def test_a_replayed_delivery_keeps_its_message_id_and_its_body(database):
    await database.write(lambda c: webhooks.insert(c, a_webhook()))
    await database.write(lambda c: jobs.insert(c, a_new_job()))
    [delivery] = await database.read(pending)
    assert await database.write(lambda c: deliveries.keep_body(c, delivery.id, b"1")) == b"1"
    assert await database.write(lambda c: deliveries.keep_body(c, delivery.id, b"2")) == b"1"
    done = Settled(state=DeliveryState.DELIVERED, next_at=None, status=204, error=None)
    await database.write(lambda c: deliveries.settle(c, delivery, done, NOW))
    again = await database.write(lambda c: deliveries.replay(c, "wh_1", delivery.id, NOW + 9))
    assert (again.state, again.tries, again.next_at) == (DeliveryState.PENDING, 0, NOW + 9)
    assert again.message_id == delivery.message_id
