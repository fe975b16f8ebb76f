"""A device that fails or recovers is told of once, by whichever daemon sees it."""

from __future__ import annotations

from dataclasses import replace

from tests.factories import a_gpu
from tests.fakes import FakeInventory
from tests.services.household import Household
from training_cluster.domain.errors import StorageFull
from training_cluster.services.queue import QueueView
from training_cluster.store import events

LOST = replace(a_gpu(1), fault="the GPU is lost")


async def told(home: Household) -> list[tuple[str, dict]]:
    found = await home.database.read(lambda c: events.page(c, 0, 1000))
    return [(e.type.value, e.data) for e in found if e.type.value.startswith("device.")]


async def see(home: Household, *devices) -> None:
    home.inventory.devices = devices
    await home.devices.read()


async def test_healthy_devices_are_not_worth_a_word(household):
    await see(household, a_gpu(0), a_gpu(1))
    assert await told(household) == []


async def test_a_device_is_told_of_when_it_fails_and_when_it_recovers(household):
    for _ in range(3):
        await see(household, a_gpu(0), LOST)
    about = {"uuid": LOST.uuid, "name": LOST.name}
    assert await told(household) == [("device.quarantined", {**about, "reason": "the GPU is lost"})]
    for _ in range(3):
        await see(household, a_gpu(0), a_gpu(1))
    _, recovered = await told(household)
    assert recovered == ("device.recovered", {**about, "reason": "it can be read again"})
    await see(household, a_gpu(0), LOST)
    assert [kind for kind, _ in await told(household)][2:] == ["device.quarantined"]


async def test_a_restarted_daemon_does_not_repeat_it(household, tmp_path):
    await see(household, a_gpu(0), LOST)
    restarted = Household(tmp_path, household.inventory, household.engine, household.clock)
    await restarted.devices.read()
    assert len(await told(restarted)) == 1
    await see(restarted, a_gpu(0), a_gpu(1))
    assert [kind for kind, _ in await told(restarted)] == ["device.quarantined", "device.recovered"]
    await restarted.close()


async def test_a_device_whose_memory_nobody_knows_is_not_to_be_trusted(household):
    await see(household, replace(a_gpu(0), used_memory_bytes=None), a_gpu(1))
    ((kind, data),) = await told(household)
    assert kind == "device.quarantined"
    assert "how much memory" in data["reason"]


async def test_what_is_shown_of_a_cpu_is_not_as_old_as_the_daemon(tmp_path):
    home = Household(tmp_path, FakeInventory(a_gpu(0), source="cpu"))
    view = QueueView(home.database, home.devices, home.clock)
    await home.devices.read()
    home.inventory.devices = (replace(a_gpu(0), used_memory_bytes=7),)
    home.clock.advance(60)
    (shown,) = (await view.state()).devices
    assert shown.device.used_memory_bytes == 7
    reads = home.inventory.reads
    await view.state()
    assert home.inventory.reads == reads, "but not for every look"
    await home.close()


async def test_what_could_not_be_stored_is_told_at_the_next_reading(household, monkeypatch):
    write = household.database.write

    async def full(change):
        raise StorageFull

    monkeypatch.setattr(household.database, "write", full)
    await see(household, a_gpu(0), LOST)
    monkeypatch.setattr(household.database, "write", write)
    assert await told(household) == []
    await see(household, a_gpu(0), LOST)
    assert len(await told(household)) == 1
