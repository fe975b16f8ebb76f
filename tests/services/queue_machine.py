"""Random lives of a daemon with three GPUs, and what must be true after every step of one.

The services, the planner and the store are the real ones; devices, engine and trainer are fakes
that outlive the daemon, which is restarted and killed at any moment. All of it runs in one thread,
so that a life can be lived again: what waits for a thread elsewhere waits for turns of the event
loop here, and others come in between as they do there."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Awaitable
from concurrent.futures import Executor, Future
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.factories import ALICE, a_gpu
from tests.fakes import FakeClock, FakeEngine, FakeInventory
from tests.services.household import Household
from training_cluster.domain.device import Device
from training_cluster.domain.errors import Conflict, ImpossibleRequest, NoDeviceFree
from training_cluster.ports import Exit, Launch
from training_cluster.scheduling.plan import Snapshot, plan
from training_cluster.services.jobs import Strategy
from training_cluster.store import holds, jobs
from training_cluster.store.database import Database, _Write, connect

GPUS = 3
MOVES = ("pause", "resume", "retry")
IN_MEMORY = Path("/dev/shm")
CONDITIONS = {
    "fine": {},
    "lost": {"fault": "lost"},
    "unknown": {"used_memory_bytes": None},
    "busy": {"used_memory_bytes": 40 << 30},
}
_devices = st.tuples(*(st.sampled_from(["fine", *CONDITIONS]) for _ in range(GPUS)))


class Inline(Executor):
    """Does at once what a thread would do."""

    def submit(self, call, /, *arguments, **named) -> Future:
        future: Future = Future()
        try:
            future.set_result(call(*arguments, **named))
        except Exception as error:
            future.set_exception(error)
        return future


class InlineDatabase(Database):
    """Every change is a transaction of its own; a turn of the loop lies before it and behind."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._readers = Inline()

    async def write(self, change):
        await asyncio.sleep(0)
        item = _Write(change)
        self._commit([item])
        return await asyncio.wrap_future(item.future)


@cache
def the_loop() -> asyncio.AbstractEventLoop:
    """One for all lives."""
    loop = asyncio.new_event_loop()
    loop._default_executor = Inline()
    return loop


@cache
def empty_store() -> bytes:
    """A queue.db as the migrations make it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "queue.db"
        Database(path).close()
        return path.read_bytes()


def a_gpu_in(index: int, condition: str) -> Device:
    return replace(a_gpu(index), **CONDITIONS[condition])


def devices_of(launch: Launch) -> list[str]:
    return launch.environment["devices"].split(",")


class WaryEngine(FakeEngine):
    """Remembers launches on devices that were in doubt at that moment, and second ones."""

    def __init__(self, inventory: FakeInventory) -> None:
        super().__init__()
        self._inventory = inventory
        self.wrong: list[str] = []

    async def start(self, launch: Launch) -> None:
        fine = {d.uuid for d in self._inventory.devices if not d.fault and d.used_memory_bytes == 0}
        doubtful = set(devices_of(launch)) - fine
        if doubtful:
            self.wrong.append(f"{launch.ref} was launched on {doubtful}")
        try:
            await super().start(launch)
        except AssertionError as error:
            self.wrong.append(str(error))


class Queue(RuleBasedStateMachine):
    """One life. `runs` and `steps` count what was really done in this process."""

    runs = steps = 0

    def __init__(self) -> None:
        super().__init__()
        Queue.runs += 1
        Queue.steps -= 1  # the invariants are checked once before the first step
        self.folder = Path(
            tempfile.mkdtemp(dir=IN_MEMORY if IN_MEMORY.is_dir() else None, prefix="queue-")
        )
        (self.folder / "queue.db").write_bytes(empty_store())
        self.store = connect(self.folder / "queue.db")
        self.inventory = FakeInventory(*(a_gpu(index) for index in range(GPUS)))
        self.engine, self.clock = WaryEngine(self.inventory), FakeClock()
        self.submitted: list[str] = []
        self.unanswered = self.leases = 0
        self.violations: list[BaseException] = []
        the_loop().set_exception_handler(self.note)
        self.household = self.run(self.make())

    def run(self, coroutine):
        return the_loop().run_until_complete(coroutine)

    def note(self, _: asyncio.AbstractEventLoop, context: dict) -> None:
        """What failed in a task that nobody waits for."""
        self.violations.append(context.get("exception") or RuntimeError(context["message"]))

    # -- a daemon's life

    async def make(self) -> Household:
        made = Household(self.folder, self.inventory, self.engine, self.clock, store=InlineDatabase)
        made.devices._executor = Inline()
        made.devices.on_change = made.dispatcher.wake
        await made.devices.read()
        await made.recovery.run_once()
        made.dispatcher.wake()
        return made

    async def settle(self) -> None:
        """Let everything that was set in motion come to rest, and the dispatcher's loop run as
        often as it was woken or its time had come."""
        dispatcher = self.household.dispatcher
        for _ in range(50):
            moving = [task for task in self.tasks() if self.moves(task)]
            if moving:
                done, _ = await asyncio.wait(moving, timeout=2)
                assert done, f"nothing moves: {moving}\n{self.story()}"
            elif dispatcher._wake.is_set() or dispatcher.delay() == 0:
                dispatcher._wake.clear()
                await dispatcher.run_once()
            else:
                return
        raise AssertionError("the daemon does not come to rest")

    @staticmethod
    def tasks() -> list[asyncio.Task]:
        return [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]

    def moves(self, task: asyncio.Task) -> bool:
        """Whether a task goes on by itself; watching an attempt that runs does not."""
        if not task.get_name().startswith("watch"):
            return True
        job_id, attempt = task.get_name().removeprefix("watch ").split("/")
        place = str(self.folder / "jobs" / job_id / f"attempt-{attempt}")
        return place in self.engine.endings and self.engine.endings[place].done()

    def live(self, deed: Awaitable[None]) -> None:
        """Do something, then come to rest."""

        async def act() -> None:
            await deed
            await self.settle()

        self.run(act())

    async def die(self, deed: Awaitable[None], turns: int) -> None:
        """As by kill -9: whatever was under way is not gone on with."""
        doing = asyncio.ensure_future(deed)
        for _ in range(turns):
            await asyncio.sleep(0)
        tasks = self.tasks()
        for task in tasks:
            task.cancel()
        await asyncio.gather(doing, *tasks, return_exceptions=True)
        await self.household.close()

    # -- deeds

    def job(self, which: int) -> str | None:
        return self.submitted[which % len(self.submitted)] if self.submitted else None

    async def do_submit(self, **fields) -> None:
        self.unanswered += 1
        with contextlib.suppress(ImpossibleRequest, NoDeviceFree):
            made = await self.household.submit(**fields)
            self.submitted.append(made.job.id)
        self.unanswered -= 1

    async def do_cancel(self, which: int) -> None:
        if job := self.job(which):
            with contextlib.suppress(Conflict):
                await self.household.jobs.cancel(job, ALICE)

    async def do_move(self, which: int, move: str) -> None:
        if job := self.job(which):
            with contextlib.suppress(Conflict):
                await getattr(self.household.jobs, move)(job, ALICE)

    async def do_end(self, which: int, code: int | None) -> None:
        running = self.engine.running
        if running:
            self.engine.end(running[which % len(running)].directory, Exit(code))

    # -- rules

    @rule(
        strategy=st.sampled_from(Strategy),
        gpus=st.integers(1, GPUS),
        priority=st.integers(-1, 1),
        retries=st.integers(0, 1),
        after=st.none() | st.integers(0, 9),
    )
    def submit(
        self, strategy: Strategy, gpus: int, priority: int, retries: int, after: int | None
    ) -> None:
        depends = () if after is None or not self.submitted else (self.job(after),)
        self.live(
            self.do_submit(
                strategy=strategy,
                gpus=gpus,
                priority=priority,
                max_retries=retries,
                depends_on=depends,
            )
        )

    @rule(which=st.integers(0, 9), code=st.sampled_from([0, 0, 1, -9, None]))
    def an_attempt_ends(self, which: int, code: int | None) -> None:
        self.live(self.do_end(which, code))

    @rule(which=st.integers(0, 9), step=st.integers(1, 5))
    def an_attempt_saves(self, which: int, step: int) -> None:
        if running := self.engine.running:
            (running[which % len(running)].directory / f"checkpoint-{step}").touch()

    @rule(which=st.integers(0, 50), move=st.sampled_from(MOVES))
    def move(self, which: int, move: str) -> None:
        self.live(self.do_move(which, move))

    @rule(which=st.integers(0, 50))
    def cancel(self, which: int) -> None:
        self.live(self.do_cancel(which))

    @rule(seconds=st.integers(1, 30))
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(seconds)
        self.live(asyncio.sleep(0))

    @rule(shown=_devices)
    def devices_change(self, shown: tuple[str, ...]) -> None:
        self.inventory.devices = tuple(map(a_gpu_in, range(GPUS), shown))
        self.clock.advance(2)
        self.live(self.household.devices.run_once())

    @rule(which=st.integers(0, GPUS - 1), seconds=st.none() | st.integers(1, 60))
    def hold(self, which: int, seconds: int | None) -> None:
        self.live(self.household.devices.hold(str(which), ALICE, "needs it", seconds))

    @rule(which=st.integers(0, GPUS - 1))
    def release(self, which: int) -> None:
        self.live(self.household.devices.release(str(which), ALICE))

    @rule(
        deed=st.sampled_from([None, "submit", "cancel", "end", "dispatch", *MOVES]),
        which=st.integers(0, 9),
        turns=st.integers(0, 12),
        shown=st.none() | _devices,
    )
    def the_daemon_restarts(
        self, deed: str | None, which: int, turns: int, shown: tuple[str, ...] | None
    ) -> None:
        """Stopped, or killed in the middle of something, after so many turns of the event loop;
        the devices may be other when it comes back."""
        deeds = {
            "submit": lambda: self.do_submit(priority=1),
            "cancel": lambda: self.do_cancel(which),
            "end": lambda: self.do_end(which, which % 2),
            "dispatch": lambda: self.household.dispatcher.run_once(),
            **{move: partial(self.do_move, which, move) for move in MOVES},
        }

        async def act() -> None:
            if deed is None:
                await self.household.close()
            else:
                await self.die(deeds[deed](), turns)
            self.new_leases_are_on_devices_that_are_fine_and_not_held()
            if shown is not None:
                self.inventory.devices = tuple(map(a_gpu_in, range(GPUS), shown))
            self.household = await self.make()

        self.live(act())

    # -- what must be true

    def story(self) -> str:
        """What the event log says: chance decides where a daemon is killed, so a failure may not
        be met a second time."""
        query = "SELECT time, type, job_number, attempt_number, data FROM events ORDER BY sequence"
        return "\n".join(["", *(str(row) for row in self.rows(query)[-40:])])

    def rows(self, query: str) -> list[tuple]:
        return [tuple(row) for row in self.store.execute(query).fetchall()]

    @invariant()
    def no_step_fails_behind_the_scenes(self) -> None:
        Queue.steps += 1
        assert self.violations == [], self.story()

    @invariant()
    def nothing_is_launched_twice_or_on_a_doubtful_device(self) -> None:
        assert self.engine.wrong == [], self.story()

    @invariant()
    def no_device_is_used_twice(self) -> None:
        used = [device for launch in self.engine.running for device in devices_of(launch)]
        assert len(used) == len(set(used))

    @invariant()
    def leases_are_exactly_those_of_running_attempts(self) -> None:
        leased = {
            row[0] for row in self.rows("SELECT device_uuid FROM leases WHERE released_at IS NULL")
        }
        assert leased == {uuid for launch in self.engine.running for uuid in devices_of(launch)}

    @invariant()
    def new_leases_are_on_devices_that_are_fine_and_not_held(self) -> None:
        new = self.rows(f"SELECT rowid, device_uuid FROM leases WHERE rowid > {self.leases}")
        if new:
            self.leases = new[-1][0]
            held = holds.active(self.store, self.clock.now())
            fine = {
                d.uuid
                for d in self.inventory.devices
                if not d.fault and d.used_memory_bytes == 0 and d.uuid not in held
            }
            assert {uuid for _, uuid in new} <= fine

    @invariant()
    def no_device_idles_while_a_job_could_have_it(self) -> None:
        statuses = self.household.devices.statuses(self.store)
        decision = plan(Snapshot(jobs.queued(self.store, 1000), statuses), self.clock.now())
        assert decision.placements == (), self.story()
        assert not decision.broken

    @invariant()
    def nothing_submitted_is_lost_and_counters_are_true(self) -> None:
        states = self.rows("SELECT id, state, priority FROM jobs")
        assert set(self.submitted) <= {row[0] for row in states}
        assert len(states) <= len(self.submitted) + self.unanswered
        counted = {(s, p): n for s, p, n in self.rows("SELECT * FROM job_counts") if n}
        true: dict[tuple[str, int], int] = {}
        for _, state, priority in states:
            true[(state, priority)] = true.get((state, priority), 0) + 1
        assert counted == true

    @invariant()
    def an_active_job_has_exactly_one_active_attempt(self) -> None:
        active = self.rows(
            "SELECT number FROM jobs WHERE state IN ('preparing', 'running', 'stopping')"
        )
        attempts = self.rows("SELECT job_number FROM attempts WHERE ended_at IS NULL")
        assert sorted(attempts) == sorted(active)

    @invariant()
    def every_attempt_goes_on_from_the_furthest_checkpoint_of_use(self) -> None:
        """One from which an attempt began that failed before it logged anything (none does here)
        is of no use."""
        query = "SELECT resumed_from FROM attempts WHERE outcome = 'trainer_error'"
        useless = {row[0] for row in self.rows(query)}
        for launch in self.engine.running:
            earlier = [
                int(path.name.removeprefix("checkpoint-"))
                for path in launch.directory.parent.glob("attempt-*/checkpoint-*")
                if path.parent != launch.directory and str(path) not in useless
            ]
            assert int(launch.environment.get("from", 0)) == max(earlier, default=0), self.story()

    def teardown(self) -> None:
        self.run(self.household.close())
        self.store.close()
        shutil.rmtree(self.folder)
