"""Whatever happens in whatever order: no device twice, no attempt twice, nothing lost."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.factories import a_gpu
from tests.fakes import FakeClock, FakeEngine, FakeInventory
from tests.services.household import Household
from training_cluster.domain.errors import Conflict, ImpossibleRequest
from training_cluster.ports import Exit


class Queue(RuleBasedStateMachine):
    """Random lives of a daemon with three GPUs."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.inventory = FakeInventory(*(a_gpu(index) for index in range(3)))
        self.engine, self.clock = FakeEngine(), FakeClock()
        self.submitted: list[str] = []
        self.household = self.run(self.make())

    def run(self, coroutine):
        return self.loop.run_until_complete(coroutine)

    async def make(self) -> Household:
        made = Household(Path(self.folder.name), self.inventory, self.engine, self.clock)
        await made.devices.read()
        await made.recovery.run_once()
        await made.dispatcher.run_once()
        return made

    async def settle(self) -> None:
        """Let everything that was set in motion come to rest."""
        for _ in range(3):
            tasks = [
                task
                for task in asyncio.all_tasks()
                if task is not asyncio.current_task() and not task.get_name().startswith("watch")
            ]
            if tasks:
                await asyncio.wait(tasks, timeout=2)
            ended = [t for t in self.household.supervisor._tasks.values() if self.is_ending(t)]
            if ended:
                await asyncio.wait(ended, timeout=2)

    def is_ending(self, task: asyncio.Task[None]) -> bool:
        """Whether the attempt of a watching task has ended."""
        job_id, attempt = task.get_name().removeprefix("watch ").split("/")
        place = str(Path(self.folder.name) / "jobs" / job_id / f"attempt-{attempt}")
        return place in self.engine.endings and self.engine.endings[place].done()

    @rule(gpus=st.integers(1, 3), priority=st.integers(-1, 1), retries=st.integers(0, 1))
    def submit(self, gpus: int, priority: int, retries: int) -> None:
        async def act() -> None:
            with contextlib.suppress(ImpossibleRequest):
                made = await self.household.submit(
                    gpus=gpus, priority=priority, max_retries=retries
                )
                self.submitted.append(made.job.id)
            await self.settle()

        self.run(act())

    @rule(which=st.integers(0, 9), code=st.sampled_from([0, 0, 1, -9]))
    def an_attempt_ends(self, which: int, code: int) -> None:
        async def act() -> None:
            running = self.engine.running
            if running:
                self.engine.end(running[which % len(running)].directory, Exit(code))
            await self.settle()

        self.run(act())

    @rule(which=st.integers(0, 50))
    def cancel(self, which: int) -> None:
        async def act() -> None:
            if self.submitted:
                with contextlib.suppress(Conflict):
                    await self.household.jobs.cancel(self.submitted[which % len(self.submitted)])
            await self.household.dispatcher.run_once()
            await self.settle()

        self.run(act())

    @rule(seconds=st.integers(1, 30))
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(seconds)
        self.run(self.dispatch())

    async def dispatch(self) -> None:
        await self.household.dispatcher.run_once()
        await self.settle()

    @rule(shown=st.lists(st.booleans(), min_size=3, max_size=3))
    def devices_change(self, shown: list[bool]) -> None:
        self.inventory.devices = tuple(
            a_gpu(i) if fine else replace(a_gpu(i), fault="lost") for i, fine in enumerate(shown)
        )
        self.clock.advance(2)
        self.run(self.dispatch())

    @rule()
    def the_daemon_restarts(self) -> None:
        async def act() -> None:
            await self.household.close()
            self.household = await self.make()
            await self.settle()

        self.run(act())

    def rows(self, query: str) -> list[tuple]:
        connection = sqlite3.connect(Path(self.folder.name) / "queue.db")
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()

    @invariant()
    def no_device_is_used_twice(self) -> None:
        used = [
            device
            for launch in self.engine.running
            for device in launch.environment["devices"].split(",")
        ]
        assert len(used) == len(set(used))

    @invariant()
    def leases_are_exactly_those_of_running_attempts(self) -> None:
        leased = {
            row[0] for row in self.rows("SELECT device_uuid FROM leases WHERE released_at IS NULL")
        }
        used = {
            device
            for launch in self.engine.running
            for device in launch.environment["devices"].split(",")
        }
        assert leased == used

    @invariant()
    def nothing_submitted_is_lost_and_counters_are_true(self) -> None:
        states = self.rows("SELECT id, state, priority FROM jobs")
        assert {row[0] for row in states} == set(self.submitted)
        counted = {(s, p): n for s, p, n in self.rows("SELECT * FROM job_counts") if n}
        true: dict[tuple[str, int], int] = {}
        for _, state, priority in states:
            true[(state, priority)] = true.get((state, priority), 0) + 1
        assert counted == true

    @invariant()
    def an_active_job_has_exactly_one_active_attempt(self) -> None:
        active = {
            row[0]
            for row in self.rows(
                "SELECT number FROM jobs WHERE state IN ('preparing', 'running', 'stopping')"
            )
        }
        attempts = [
            row[0] for row in self.rows("SELECT job_number FROM attempts WHERE ended_at IS NULL")
        ]
        assert sorted(attempts) == sorted(active)

    def teardown(self) -> None:
        self.run(self.household.close())
        self.loop.close()
        self.folder.cleanup()


def check(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        Queue,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_queue_keeps_its_invariants():
    check(30, 25)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_queue_keeps_its_invariants_for_long():
    check(1000, 60)
