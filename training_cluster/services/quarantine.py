"""Keeps devices that failed out of the queue until they have proved themselves or a person says
so, and remembers it over restarts."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog

from training_cluster.domain.device import (
    BusyPolicy,
    Device,
    Inventory,
    Quarantine,
    QuarantineCause,
    Standing,
    Tolerance,
    allowed_memory,
    availability,
    unidentified,
)
from training_cluster.domain.errors import TrainingClusterError
from training_cluster.domain.event import ATTEMPT_ENDS, Event, EventType
from training_cluster.ports import Clock
from training_cluster.scheduling import quarantine as rules_of
from training_cluster.scheduling.quarantine import Freed, QuarantineRules, Streak
from training_cluster.store import quarantines
from training_cluster.store.database import Database
from training_cluster.store.facts import Fact

log = structlog.get_logger(__name__)

_RECENT_SECONDS = 300.0


@dataclass(slots=True)
class _Known:
    """What the store says; this service is the only one that changes it."""

    quarantined: dict[str, Quarantine]
    tolerated: dict[str, Tolerance]


class Quarantines:
    """Judges each reading; changes the store only when something has changed."""

    def __init__(
        self, database: Database, clock: Clock, policy: BusyPolicy, rules: QuarantineRules
    ) -> None:
        self._database = database
        self._clock = clock
        self._policy = policy
        self._rules = rules
        self._known: _Known | None = None
        self._streaks: dict[str, Streak] = {}
        self._freed: dict[str, Freed] = {}

    @property
    def count(self) -> int:
        """How many devices are in quarantine."""
        return 0 if self._known is None else len(self._known.quarantined)

    def notice(self, facts: Sequence[Fact]) -> None:
        """Learn from committed facts which devices attempts were given and have given back."""
        for fact in facts:
            if not isinstance(fact, Event) or fact.job_number is None:
                continue
            for uuid in fact.data.get("devices", ()):
                if fact.type in ATTEMPT_ENDS:
                    self._freed[uuid] = Freed(fact.job_number, self._clock.monotonic())
                elif fact.type is EventType.JOB_STARTING:
                    self._freed.pop(uuid, None)

    async def judge(self, inventory: Inventory) -> bool:
        """Quarantine what this reading shows to be doubtful, end what has proved itself; True
        when that changed something. What cannot be stored is found again at the next reading."""
        try:
            known = await self._load()
            new = self._new(inventory, known)
            proved = self._proved(inventory, known)
            if new or proved:
                await self._database.write(lambda c: self._record(c, new, proved))
                await self._reload()
                return True
        except TrainingClusterError:
            log.exception("will be tried at the next reading", action="quarantine.store")
        return False

    async def _load(self) -> _Known:
        if self._known is None:
            since = self._clock.now() - _RECENT_SECONDS
            freed = await self._database.read(lambda c: quarantines.freed_since(c, since))
            now = self._clock.monotonic()
            self._freed = {uuid: Freed(job, now) for uuid, job in freed.items()} | self._freed
            return await self._reload()
        return self._known

    async def _reload(self) -> _Known:
        now = self._clock.now()
        self._known = known = await self._database.read(
            lambda c: _Known(quarantines.active(c), quarantines.tolerated(c, now))
        )
        return known

    def _new(self, inventory: Inventory, known: _Known) -> list[Quarantine]:
        found = [self._doubt(device, known) for device in inventory.devices]
        found += self._handed_down(inventory, known)
        return [
            q for q in found if q and rules_of.is_worse(q, known.quarantined.get(q.device_uuid))
        ]

    def _doubt(self, device: Device, known: _Known) -> Quarantine | None:
        """Why this device is not to be trusted, and its healthy readings counted."""
        fault, now = self.fault(device), self._clock.monotonic()
        if fault is not None:
            self._streaks.pop(device.uuid, None)
            return rules_of.for_fault(device, fault, self._clock.now())
        if self._holds_memory(device, known):
            self._streaks.pop(device.uuid, None)
            freed = self._freed.get(device.uuid)
            if freed is None or now - freed.at < self._rules.held_memory_seconds:
                return None
            return rules_of.for_memory(device, freed, now - freed.at, self._clock.now())
        self._freed.pop(device.uuid, None)
        if device.uuid in known.quarantined:
            self._streaks[device.uuid] = rules_of.longer(self._streaks.get(device.uuid), now)
        return None

    def _holds_memory(self, device: Device, known: _Known) -> bool:
        """Only asked of devices that an attempt gave back: others are busy."""
        quarantine = known.quarantined.get(device.uuid)
        is_held = quarantine is not None and quarantine.cause is QuarantineCause.MEMORY
        if device.uuid not in self._freed and not is_held:
            return False
        tolerance = known.tolerated.get(device.uuid)
        if tolerance and tolerance.until is not None and tolerance.until <= self._clock.now():
            tolerance = None
        return rules_of.holds_memory(device, allowed_memory(self._policy, tolerance))

    def fault(self, device: Device) -> str | None:
        """Why a reading of this device is not to be trusted."""
        standing = availability(device, None, None, self._policy)
        return standing.reason if standing.standing is Standing.FAULTY else None

    def _handed_down(self, inventory: Inventory, known: _Known) -> list[Quarantine]:
        """A GPU that failed before it said who it is keeps its quarantine when it does."""
        return [
            replace(known.quarantined[old], device_uuid=device.uuid, name=device.name)
            for device in inventory.devices
            if (old := unidentified(device.index)) in known.quarantined
            and not device.is_unidentified
        ]

    def _proved(self, inventory: Inventory, known: _Known) -> list[str]:
        now = self._clock.monotonic()
        proved = [
            uuid
            for uuid, streak in list(self._streaks.items())  # the store's thread takes some out
            if (quarantine := known.quarantined.get(uuid))
            and quarantine.cause.ends_by_itself
            and rules_of.is_proved(streak, self._rules, now)
        ]
        named = {unidentified(d.index) for d in inventory.devices if not d.is_unidentified}
        return proved + [uuid for uuid in known.quarantined if uuid in named]

    def _record(
        self, connection: sqlite3.Connection, new: Sequence[Quarantine], proved: Sequence[str]
    ) -> None:
        now = self._clock.now()
        for quarantine in new:
            since = now - self._rules.flap_window_seconds
            times = quarantines.times_since(connection, quarantine.device_uuid, since) + 1
            if times >= self._rules.flaps and quarantine.cause.ends_by_itself:
                quarantine = rules_of.flapping(quarantine, times)
            quarantines.put(connection, quarantine)
            log.warning(
                quarantine.reason, action="device.quarantined", device=quarantine.device_uuid
            )
        for uuid in proved:
            quarantines.end(connection, uuid, "it can be read again", None, now)
            self._streaks.pop(uuid, None)
            log.info("back in the queue", action="device.recovered", device=uuid)

    async def put(self, device: Device, reason: str, user: str) -> Quarantine:
        """Quarantine a device because a person says so; a job that has it keeps it."""
        now = self._clock.now()
        made = Quarantine(device.uuid, device.name, QuarantineCause.PERSON, reason, now, user)
        await self._database.write(lambda connection: quarantines.put(connection, made))
        await self._reload()
        return made

    async def end(self, device: Device, user: str) -> bool:
        """End a quarantine because a person says so; a fault that is still there makes a new
        one. False when there was none."""
        now = self._clock.now()
        ended = await self._database.write(
            lambda c: quarantines.end(c, device.uuid, f"released by {user}", user, now)
        )
        self._freed.pop(device.uuid, None)
        self._streaks.pop(device.uuid, None)
        await self._reload()
        return ended

    async def tolerate(self, tolerance: Tolerance) -> None:
        """Wave foreign memory through on a device."""
        await self._database.write(lambda connection: quarantines.tolerate(connection, tolerance))
        await self._reload()

    async def end_tolerance(self, device: Device, user: str) -> bool:
        """Foreign memory makes the device busy again; False when it did all the time."""
        now = self._clock.now()
        ended = await self._database.write(
            lambda c: quarantines.end_tolerance(c, device.uuid, user, now)
        )
        await self._reload()
        return ended
