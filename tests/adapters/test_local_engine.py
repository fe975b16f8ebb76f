"""The local engine with real processes, under asyncio's own loop and under uvloop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from training_cluster.adapters.local_engine import LocalEngine, fork_server_client
from training_cluster.adapters.local_engine.attempt_files import AttemptFiles
from training_cluster.adapters.local_engine.processes import MARKER, boot_id, readable
from training_cluster.domain.errors import EngineUnavailable
from training_cluster.domain.job import AttemptRef, StopReason
from training_cluster.ports import Exit, Launch, Sighting

pytestmark = pytest.mark.anyio
HOST = Path(__file__).with_name("engine_host.py")
STUBBORN = "trap '' TERM; setsid sh -c 'while :; do sleep 1; done' & while :; do sleep 1; done"


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[LocalEngine]:
    engine = LocalEngine()
    await engine.open()
    yield engine
    await engine.close()
    for directory in tmp_path.iterdir():
        for pid in marked(directory):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Launch]:
    """Launches, each with a directory of its own."""

    def make(*argv: str, **changes: Any) -> Launch:
        directory = tmp_path / f"attempt-{len(list(tmp_path.iterdir()))}"
        directory.mkdir()
        return Launch(
            ref=AttemptRef("job", 1),
            directory=directory,
            argv=argv,
            environment=changes.get("environment", {"PATH": os.defpath}),
            grace_seconds=changes.get("grace_seconds", 0.3),
            max_seconds=changes.get("max_seconds"),
        )

    return make


def sh(make: Callable[..., Launch], script: str, **changes: Any) -> Launch:
    return make("/bin/sh", "-c", script, **changes)


async def run(engine: LocalEngine, launch: Launch) -> Exit:
    await engine.start(launch)
    return await within(engine.wait(launch.directory))


async def within(awaitable: Awaitable[Exit], seconds: float = 20) -> Exit:
    return await asyncio.wait_for(awaitable, seconds)


async def eventually(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.005)


def environments() -> dict[int, list[bytes]]:
    found = {}
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            found[int(path.parent.name)] = path.read_bytes().split(b"\0")
        except OSError:
            continue
    return found


def marked(directory: Path) -> list[int]:
    """Living processes of an attempt, by the variable each of them inherits."""
    marker = os.fsencode(f"{MARKER}={directory}")
    return [pid for pid, variables in environments().items() if marker in variables]


def state_and_parent(pid: int) -> tuple[str, int]:
    state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    return state, int(parent)


def is_living(pid: int) -> bool:
    try:
        return state_and_parent(pid)[0] != "Z"
    except OSError:
        return False


def children(parent: int) -> list[int]:
    """Children of a process, zombies included."""
    found = []
    for pid in (int(path.name) for path in Path("/proc").glob("[0-9]*")):
        with contextlib.suppress(OSError):
            if state_and_parent(pid)[1] == parent:
                found.append(pid)
    return found


def fork_server() -> int:
    """The pid of the fork server of this process's engine."""

    def is_one(pid: int) -> bool:
        return b"fork_server.py" in Path(f"/proc/{pid}/cmdline").read_bytes()

    (pid,) = [pid for pid in children(os.getpid()) if is_one(pid)]
    return pid


def pid_of(launch: Launch, role: str) -> int:
    return int(json.loads((launch.directory / "pid.json").read_text())[role]["pid"])


def is_up(launch: Launch) -> Callable[[], bool]:
    return (launch.directory / "pid.json").exists


def unmarked_children(launch: Launch) -> list[int]:
    """Living children of the trainer that cleared their environment."""
    found = environments()
    below = children(pid_of(launch, "trainer"))
    return [pid for pid in below if is_living(pid) and found.get(pid) == [b""]]


def log(launch: Launch) -> str:
    return (launch.directory / "trainer.log").read_text()


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", -9)])
async def test_exit_codes_and_signals_are_true(
    engine: LocalEngine, make: Callable[..., Launch], script: str, code: int
) -> None:
    ending = await run(engine, sh(make, script))
    assert (ending.code, ending.stop_reason, ending.exec_error) == (code, None, None)
    assert ending.started_at is not None
    assert ending.ended_at is not None
    assert not ending.is_lost


async def test_a_trainer_gets_its_environment_directory_and_nothing_else(
    engine: LocalEngine, make: Callable[..., Launch]
) -> None:
    launch = make("/usr/bin/env", "-0", environment={"TOKEN": "s€cret", "EMPTY": ""})
    assert (await run(engine, launch)).code == 0
    expected = {"TOKEN=s€cret", "EMPTY=", f"{MARKER}={launch.directory}"}
    assert set(log(launch).rstrip("\0").split("\0")) == expected
    where = make("/bin/readlink", "/proc/self/cwd")
    await run(engine, where)
    assert log(where) == f"{where.directory}\n"


async def test_secrets_of_a_launch_are_for_the_owners_eyes_only(
    engine: LocalEngine, make: Callable[..., Launch]
) -> None:
    launch = make("/bin/true")
    await run(engine, launch)
    await eventually(lambda: (launch.directory / "exit.json").exists())
    for name in ("launch.json", "trainer.log", "exit.json"):
        assert (launch.directory / name).stat().st_mode & 0o077 == 0


async def test_the_environment_of_an_ended_attempt_is_forgotten(
    engine: LocalEngine, make: Callable[..., Launch]
) -> None:
    launch = make("/bin/true")
    assert any(launch.environment.values())
    await run(engine, launch)

    def kept() -> dict[str, str]:
        return json.loads((launch.directory / "launch.json").read_text())["environment"]

    await eventually(lambda: not any(kept().values()))
    assert kept().keys() == launch.environment.keys()
    assert (launch.directory / "launch.json").stat().st_mode & 0o077 == 0


async def test_neither_trainer_nor_runner_inherits_a_descriptor(
    engine: LocalEngine, make: Callable[..., Launch]
) -> None:
    leaked = os.open("/etc/passwd", os.O_RDONLY)
    os.set_inheritable(leaked, True)
    launch = make("/bin/sleep", "100")
    await engine.start(launch)
    await eventually(is_up(launch))
    os.close(leaked)
    targets = {
        role: sorted(os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir())
        for role in ("runner", "trainer")
        for pid in [pid_of(launch, role)]
    }
    own = [str(launch.directory / "trainer.log")] * 2
    assert targets["trainer"] == ["/dev/null", *own]
    *files, channel = targets["runner"]
    assert files == ["/dev/null", str(launch.directory / "lock"), *own]
    assert channel.startswith("socket:"), "on which it tells the end"
    await engine.stop(launch.directory, StopReason.CANCELLED)
    await within(engine.wait(launch.directory))


async def test_an_attempt_is_launched_once_however_often_it_is_started(
    engine: LocalEngine, make: Callable[..., Launch]
) -> None:
    launch = sh(make, "echo launched; sleep 0.2; exit 6")
    other = LocalEngine()
    await other.open()
    await asyncio.gather(*(which.start(launch) for which in (engine, other, engine, other)))
    endings = await asyncio.gather(
        *(within(which.wait(launch.directory)) for which in (engine, other, engine))
    )
    assert [ending.code for ending in endings] == [6, 6, 6]
    await engine.start(launch)
    assert (await within(engine.wait(launch.directory))).code == 6
    assert log(launch) == "launched\n"
    await other.close()


async def test_look_tells_where_an_attempt_is(
    engine: LocalEngine, make: Callable[..., Launch]
) -> None:
    launch = sh(make, "sleep 0.3")
    stranger = LocalEngine()
    assert await engine.look(launch.directory) is Sighting.NEVER
    await engine.start(launch)
    assert await engine.look(launch.directory) is Sighting.ALIVE
    await eventually(is_up(launch))
    assert await stranger.look(launch.directory) is Sighting.ALIVE
    await within(stranger.wait(launch.directory))
    assert await stranger.look(launch.directory) is Sighting.EXITED


async def test_a_cancelled_job_leaves_no_process_behind(
    engine: LocalEngine, make: Callable[..., Launch]
) -> None:
    launch = sh(make, STUBBORN)
    await engine.start(launch)
    await eventually(lambda: len(marked(launch.directory)) >= 3)
    asked_at = time.monotonic()
    await engine.stop(launch.directory, StopReason.CANCELLED)
    ending = await within(engine.wait(launch.directory))
    assert marked(launch.directory) == []
    assert (ending.code, ending.stop_reason) == (-9, StopReason.CANCELLED)
    assert time.monotonic() - asked_at >= launch.grace_seconds


async def test_a_stop_before_the_start_keeps_the_trainer_from_running(
    engine: LocalEngine, make: Callable[..., Launch]
) -> None:
    launch = sh(make, "echo launched")
    await engine.stop(launch.directory, StopReason.PREEMPTED)
    ending = await run(engine, launch)
    assert (ending.stop_reason, ending.started_at) == (StopReason.PREEMPTED, None)
    assert not ending.is_lost
    assert log(launch) == ""


async def test_a_stop_while_the_runner_comes_up_is_not_lost(
    engine: LocalEngine, make: Callable[..., Launch]
) -> None:
    stranger = LocalEngine()
    for number in range(40):
        launch = make("/bin/sleep", "100")
        await engine.start(launch)
        await asyncio.sleep(number / 10_000)
        stopper = engine if number % 2 else stranger
        await stopper.stop(launch.directory, StopReason.CANCELLED)
        ending = await within(engine.wait(launch.directory))
        assert (ending.code, ending.stop_reason) == (-15, StopReason.CANCELLED)


async def test_a_full_disk_keeps_the_reason_of_a_stop_but_not_the_stop(
    engine: LocalEngine, make: Callable[..., Launch], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    started, waiting = make("/bin/sleep", "100"), make("/bin/sleep", "100")
    await engine.start(started)
    await eventually(is_up(started))
    with monkeypatch.context() as disk:
        disk.setattr(AttemptFiles, "request_stop", refuse)
        await engine.stop(started.directory, StopReason.CANCELLED)
        with pytest.raises(EngineUnavailable, match="No space left"):
            await engine.stop(waiting.directory, StopReason.CANCELLED)
    ending = await within(engine.wait(started.directory))
    assert (ending.code, ending.stop_reason) == (-15, None)


async def test_files_cut_short_by_a_power_cut_make_a_lost_attempt(
    engine: LocalEngine, make: Callable[..., Launch]
) -> None:
    launch = make("/bin/true")
    for name in ("started", "pid.json", "stop.json", "lock"):
        (launch.directory / name).touch()
    assert await within(engine.wait(launch.directory)) == Exit(code=None)


async def test_the_first_reason_to_stop_stands_unless_the_second_is_a_cancellation(
    engine: LocalEngine, make: Callable[..., Launch]
) -> None:
    for first, second, told in (
        (StopReason.PREEMPTED, StopReason.PAUSED, StopReason.PREEMPTED),
        (StopReason.CANCELLED, StopReason.PAUSED, StopReason.CANCELLED),
        (StopReason.PAUSED, StopReason.CANCELLED, StopReason.CANCELLED),
    ):
        launch = sh(make, "trap '' TERM; while :; do sleep 0.05; done")
        await engine.start(launch)
        await eventually(is_up(launch))
        await engine.stop(launch.directory, first)
        await engine.stop(launch.directory, second)
        ending = await within(engine.wait(launch.directory))
        assert ending.stop_reason is told
        await engine.stop(launch.directory, StopReason.CANCELLED)
        assert await within(engine.wait(launch.directory)) == ending


async def test_a_restart_of_the_machine_is_known_by_its_boot_id(
    engine: LocalEngine, make: Callable[..., Launch]
) -> None:
    launch = make("/bin/true")
    (launch.directory / "started").touch()
    for boot, rebooted in ((boot_id(), False), ("of an earlier boot", True)):
        process = {"pid": 2**22 - 1, "start_time": 1}
        named = {"runner": process, "trainer": process, "boot_id": boot}
        (launch.directory / "pid.json").write_text(json.dumps(named))
        ending = await within(engine.wait(launch.directory))
        assert (ending.is_lost, ending.rebooted) == (True, rebooted)


async def test_an_attempt_over_its_time_is_stopped_as_timed_out(
    engine: LocalEngine, make: Callable[..., Launch]
) -> None:
    launch = sh(make, STUBBORN, max_seconds=0.3, grace_seconds=0.2)
    ending = await run(engine, launch)
    assert (ending.code, ending.stop_reason) == (-9, StopReason.TIMED_OUT)
    assert ending.duration_seconds is not None
    assert 0.5 <= ending.duration_seconds < 20, "it would never end by itself"
    assert marked(launch.directory) == []


async def test_a_trainer_that_cannot_be_executed_says_so(
    engine: LocalEngine, make: Callable[..., Launch]
) -> None:
    ending = await run(engine, make("no-such-trainer"))
    assert ending.code is None
    assert "no-such-trainer" in str(ending.exec_error)
    assert not ending.is_lost


async def test_fifty_attempts_at_once_all_end_well(
    engine: LocalEngine, make: Callable[..., Launch]
) -> None:
    launches = [sh(make, f"exit {number}") for number in range(50)]
    endings = await asyncio.gather(*(run(engine, launch) for launch in launches))
    assert [ending.code for ending in endings] == list(range(50))
    await eventually(lambda: len(children(fork_server())) == 1)


async def test_a_runner_killed_is_a_lost_attempt_without_leftovers(
    engine: LocalEngine, make: Callable[..., Launch]
) -> None:
    launch = sh(make, f"env -i setsid sleep 98765 & {STUBBORN}")
    await engine.start(launch)
    await eventually(is_up(launch))
    await eventually(lambda: len(marked(launch.directory)) >= 3 and unmarked_children(launch))
    unmarked = unmarked_children(launch)
    os.kill(pid_of(launch, "runner"), signal.SIGKILL)
    ending = await within(engine.wait(launch.directory))
    assert ending == Exit(code=None)
    assert ending.is_lost
    assert marked(launch.directory) == []
    assert not any(is_living(pid) for pid in unmarked)
    assert await engine.look(launch.directory) is Sighting.LOST


@pytest.mark.parametrize("change", ["start_time", "boot_id"])
async def test_a_stranger_with_a_recorded_pid_is_left_alone(
    engine: LocalEngine, make: Callable[..., Launch], change: str
) -> None:
    launch = make("/bin/true")
    stranger = subprocess.Popen(["/bin/sleep", "100"])
    stat = Path(f"/proc/{stranger.pid}/stat").read_text()
    identity = {"pid": stranger.pid, "start_time": int(stat.rpartition(")")[2].split()[19])}
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    if change == "start_time":
        identity["start_time"] -= 1
    else:
        boot_id = "another"
    record = {"runner": identity, "trainer": identity, "boot_id": boot_id}
    (launch.directory / "pid.json").write_text(json.dumps(record))
    (launch.directory / "started").touch()
    await engine.stop(launch.directory, StopReason.CANCELLED)
    ending = await within(engine.wait(launch.directory))
    rebooted = change == "boot_id"
    assert ending == Exit(code=None, stop_reason=StopReason.CANCELLED, rebooted=rebooted)
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


async def test_waiting_for_an_attempt_nobody_started_revokes_it(
    engine: LocalEngine, make: Callable[..., Launch]
) -> None:
    launch = make("/bin/true")
    (launch.directory / "launch.json").write_text("{}")
    assert (await within(engine.wait(launch.directory))).is_lost
    assert not (launch.directory / "launch.json").exists()


async def test_attempts_survive_the_fork_server_and_the_next_one_starts(
    engine: LocalEngine, make: Callable[..., Launch]
) -> None:
    before = sh(make, "sleep 0.5; exit 8")
    await engine.start(before)
    os.kill(fork_server(), signal.SIGKILL)
    assert (await run(engine, sh(make, "exit 9"))).code == 9
    assert (await within(engine.wait(before.directory))).code == 8


async def test_a_fork_server_that_hangs_is_replaced(
    engine: LocalEngine, make: Callable[..., Launch], monkeypatch: pytest.MonkeyPatch
) -> None:
    hung = fork_server()
    os.kill(hung, signal.SIGSTOP)
    monkeypatch.setattr(fork_server_client, "ANSWER_SECONDS", 0.5)
    assert (await run(engine, sh(make, "exit 9"))).code == 9
    assert fork_server() != hung


async def test_a_staged_attempt_starts_only_by_the_word(
    engine: LocalEngine, make: Callable[..., Launch]
) -> None:
    launch = sh(make, "echo up; exit 7")
    await engine.stage(launch)
    await eventually(lambda: (launch.directory / "trainer.log").exists())
    assert not (launch.directory / "started").exists()
    assert (await run(engine, launch)).code == 7
    assert (launch.directory / "trainer.log").read_text() == "up\n"


async def test_a_staged_attempt_that_is_started_otherwise_runs_as_told_last(
    engine: LocalEngine, make: Callable[..., Launch]
) -> None:
    staged = sh(make, "exit 1")
    await engine.stage(staged)
    told = replace(staged, argv=("/bin/sh", "-c", "exit 2"))
    assert (await run(engine, told)).code == 2


async def test_staging_another_attempt_lets_go_of_the_first(
    engine: LocalEngine, make: Callable[..., Launch]
) -> None:
    first, second = sh(make, "exit 1"), sh(make, "exit 2")
    await engine.stage(first)
    await engine.stage(second)
    assert await engine.look(first.directory) is Sighting.NEVER
    assert (await run(engine, first)).code == 1
    assert (await run(engine, second)).code == 2


async def test_a_staged_runner_killed_costs_no_attempt(
    engine: LocalEngine, make: Callable[..., Launch]
) -> None:
    launch = sh(make, "exit 3")
    await engine.stage(launch)
    assert engine._staged is not None
    signal.pidfd_send_signal(engine._staged[1].pidfd, signal.SIGKILL)
    await readable(engine._staged[1].pidfd)
    assert (await run(engine, launch)).code == 3


async def test_a_staged_attempt_is_unstarted_once_its_daemon_is_gone(
    engine: LocalEngine, make: Callable[..., Launch]
) -> None:
    launch = sh(make, "exit 4")
    await engine.stage(launch)
    await engine.close()
    heir = LocalEngine()
    await heir.open()
    assert await heir.look(launch.directory) is Sighting.NEVER
    assert (await run(heir, launch)).code == 4
    await heir.close()


async def test_a_killed_spare_runner_costs_no_attempt(
    engine: LocalEngine, make: Callable[..., Launch]
) -> None:
    await eventually(lambda: len(children(fork_server())) == 1)
    server = fork_server()
    (spare,) = children(server)
    os.kill(spare, signal.SIGKILL)
    await eventually(lambda: spare not in children(server))
    assert (await run(engine, sh(make, "exit 9"))).code == 9
    assert fork_server() == server


async def test_a_start_given_up_does_not_confuse_the_next(
    engine: LocalEngine, make: Callable[..., Launch]
) -> None:
    given_up, following = sh(make, "exit 1"), sh(make, "exit 2")
    task = asyncio.create_task(engine.start(given_up))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await run(engine, following)).code == 2
    assert (await run(engine, given_up)).code == 1


async def test_nothing_but_attempts_outlives_the_engine(make: Callable[..., Launch]) -> None:
    engine = LocalEngine()
    await engine.open()
    await engine.open()
    server = fork_server()
    await eventually(lambda: len(children(server)) == 1)
    (spare,) = children(server)
    launch = sh(make, "sleep 0.3; exit 5")
    await engine.start(launch)
    await eventually(lambda: len(children(server)) == 2)
    spares = set(children(server)) - {spare}
    await engine.close()
    await engine.close()
    assert not Path(f"/proc/{server}").exists()
    await eventually(lambda: not any(is_living(pid) for pid in spares))
    assert (await within(engine.wait(launch.directory))).code == 5


async def test_an_engine_that_cannot_start_attempts_says_why(
    engine: LocalEngine, make: Callable[..., Launch]
) -> None:
    launch = make("/bin/true")
    with pytest.raises(EngineUnavailable, match="not open"):
        await LocalEngine().start(launch)
    with pytest.raises(EngineUnavailable, match="cannot execute /nowhere/python"):
        await LocalEngine("/nowhere/python").open()
    with pytest.raises(EngineUnavailable, match="has ended"):
        await LocalEngine("/bin/true").open()
    assert not (launch.directory / "launch.json").exists()
    nowhere = replace(launch, directory=launch.directory / "nowhere")
    with pytest.raises(EngineUnavailable, match=f"cannot write to {nowhere.directory}"):
        await engine.start(nowhere)


async def test_attempts_of_a_killed_daemon_are_adopted_with_their_true_exit_codes(
    engine: LocalEngine, tmp_path: Path
) -> None:
    attempts = [tmp_path / f"attempt-{number}" for number in range(5)]
    script = "echo launched; until [ -e ../go ]; do sleep 0.01; done; exit $1"
    for number, directory in enumerate(attempts):
        directory.mkdir()
        want = {"argv": ["/bin/sh", "-c", script, "trainer", str(number)]}
        (directory / "want.json").write_text(json.dumps(want))
    with subprocess.Popen([sys.executable, str(HOST), str(tmp_path)]) as host:
        await eventually(lambda: all((path / "pid.json").exists() for path in attempts))
        host.kill()
    assert [await engine.look(path) for path in attempts] == [Sighting.ALIVE] * 5
    waits = [asyncio.create_task(within(engine.wait(path))) for path in attempts]
    (tmp_path / "go").touch()
    assert [(await wait).code for wait in waits] == [0, 1, 2, 3, 4]
    assert [(path / "trainer.log").read_text() for path in attempts] == ["launched\n"] * 5
    (tmp_path / "go").unlink()
