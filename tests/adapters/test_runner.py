"""The runner by itself: one launch, one truthful record, nothing left behind."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from training_cluster import runner, runner_processes

RUNNER = Path(runner.__file__)
LIBC_SIGNALS = 0b11 << 31  # 32 and 33 belong to glibc, which lets nobody set them


def write_launch(directory: Path, *argv: str, **changes: Any) -> None:
    content = {
        "ref": {"job_id": "job", "number": 1},
        "argv": argv,
        "environment": {"PATH": os.defpath},
        "grace_seconds": 0.3,
        "max_seconds": None,
    }
    (directory / "launch.json").write_text(json.dumps(content | changes))


def start_runner(directory: Path, pass_fds: tuple[int, ...] = ()) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-I", "-S", str(RUNNER), str(directory)]
    return subprocess.Popen(command, pass_fds=pass_fds)


def run(directory: Path, *argv: str, **changes: Any) -> dict[str, Any]:
    """Run an attempt to its end; its exit.json."""
    write_launch(directory, *argv, **changes)
    assert start_runner(directory).wait(20) == runner.RECORDED
    return read(directory, "exit.json")


def read(directory: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((directory / name).read_text())
    return content


def eventually(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.005)


def marked(directory: Path) -> list[int]:
    """Processes of an attempt, by the variable each of them inherits."""
    marker = os.fsencode(f"{runner.MARKER}={directory}")
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if marker in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.fixture
def attempt(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    for pid in marked(tmp_path):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", -9), ("kill -TERM $$", -15)],
)
def test_the_exit_code_is_the_trainers_and_negative_for_a_signal(
    attempt: Path, script: str, code: int
) -> None:
    ending = run(attempt, "/bin/sh", "-c", script)
    assert ending["code"] == code
    assert ending["stop_reason"] is None
    assert ending["exec_error"] is None


def test_durations_are_monotonic_and_times_are_unix(attempt: Path) -> None:
    before = time.time()
    ending = run(attempt, "/bin/sleep", "0.2")
    assert before <= ending["started_at"] <= ending["ended_at"] <= time.time()
    assert 0.2 <= ending["duration_seconds"] < 20
    nanoseconds = ending["ended_monotonic_ns"] - ending["spawned_monotonic_ns"]
    assert nanoseconds / 1e9 == ending["duration_seconds"]


def test_an_attempt_is_never_launched_twice(attempt: Path) -> None:
    first = run(attempt, "/bin/sh", "-c", "echo launched; exit 4")
    assert start_runner(attempt).wait(20) == runner.STARTED_BEFORE
    assert (attempt / "trainer.log").read_text() == "launched\n"
    assert read(attempt, "exit.json") == first


def test_runners_racing_for_an_attempt_launch_it_once(attempt: Path) -> None:
    write_launch(attempt, "/bin/sh", "-c", "echo launched; sleep 0.2")
    racing = [start_runner(attempt) for _ in range(6)]
    codes = sorted(process.wait(20) for process in racing)
    assert codes == [runner.RECORDED] + [runner.STARTED_BEFORE] * 5
    assert (attempt / "trainer.log").read_text() == "launched\n"


def test_an_attempt_can_be_claimed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runner.claim()
    with pytest.raises(FileExistsError):
        runner.claim()


def test_a_daemon_testing_the_lock_does_not_keep_an_attempt_from_starting(attempt: Path) -> None:
    write_launch(attempt, "/bin/true")
    with open(attempt / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        process = start_runner(attempt)
        eventually((attempt / "trainer.log").exists)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.1)
    assert process.wait(20) == runner.RECORDED


def test_no_descriptor_passes_through_the_runner(attempt: Path) -> None:
    write_launch(attempt, "/bin/ls", "/proc/self/fd")
    with open(os.devnull) as inherited:
        assert start_runner(attempt, pass_fds=(inherited.fileno(),)).wait(20) == runner.RECORDED
        listed = (attempt / "trainer.log").read_text().split()
    assert listed == ["0", "1", "2", "3"]  # 3 is the listing itself


def test_a_revoked_launch_starts_nothing(attempt: Path) -> None:
    assert start_runner(attempt).wait(20) == runner.REVOKED
    assert not (attempt / "started").exists()


def test_a_missing_directory_is_a_usage_error(tmp_path: Path) -> None:
    command = [sys.executable, "-I", "-S", str(RUNNER), str(tmp_path / "nowhere")]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert refused.returncode == 2
    assert "usage: runner.py ATTEMPT_DIRECTORY" in refused.stderr


def test_a_trainer_that_cannot_be_executed_is_told_apart_from_one_that_failed(
    attempt: Path,
) -> None:
    ending = run(attempt, "/nowhere/trainer", "train")
    assert ending["code"] is None
    assert ending["exec_error"] == "cannot execute ['/nowhere/trainer']: No such file or directory"


def test_a_program_is_found_on_the_path_of_the_trainer(attempt: Path) -> None:
    (attempt / "bin").mkdir()
    program = attempt / "bin" / "my-trainer"
    program.write_text("#!/bin/sh\nexit 12\n")
    program.chmod(0o700)
    ending = run(attempt, "my-trainer", environment={"PATH": f"/nowhere:{attempt}/bin"})
    assert ending["code"] == 12


def test_the_trainer_gets_default_signals_and_a_session_of_its_own(attempt: Path) -> None:
    ending = run(attempt, "/bin/sh", "-c", "cat /proc/self/status; cut -d' ' -f6 /proc/$$/stat")
    lines = (attempt / "trainer.log").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines[:-1] if ":\t" in line)
    assert int(status["SigBlk"], 16) == 0
    assert int(status["SigIgn"], 16) & ~LIBC_SIGNALS == 0
    assert int(lines[-1]) == read(attempt, "pid.json")["trainer"]["pid"]
    assert ending["code"] == 0


def test_the_trainer_is_the_first_to_go_when_memory_runs_out(attempt: Path) -> None:
    wait_for_score = (
        "until [ $(cat /proc/self/oom_score_adj) = 500 ]; do sleep 0.01; done; echo raised"
    )
    run(attempt, "/bin/sh", "-c", wait_for_score, max_seconds=10)
    assert (attempt / "trainer.log").read_text() == "raised\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_ends_the_trainer_and_without_word_has_no_reason(
    attempt: Path, number: signal.Signals
) -> None:
    write_launch(attempt, "/bin/sleep", "100")
    process = start_runner(attempt)
    eventually((attempt / "pid.json").exists)
    process.send_signal(number)
    assert process.wait(20) == runner.RECORDED
    ending = read(attempt, "exit.json")
    assert (ending["code"], ending["stop_reason"]) == (-15, None)


def test_a_trainer_may_end_well_within_its_grace(attempt: Path) -> None:
    script = "trap 'sleep 0.2; exit 0' TERM; echo up; while :; do sleep 0.01; done"
    write_launch(attempt, "/bin/sh", "-c", script, grace_seconds=10)
    process = start_runner(attempt)
    eventually(lambda: (attempt / "trainer.log").exists())
    eventually(lambda: (attempt / "trainer.log").read_text() == "up\n")
    (attempt / "stop.json").write_text('{"reason": "preempted"}')
    process.terminate()
    process.wait(20)
    ending = read(attempt, "exit.json")
    assert (ending["code"], ending["stop_reason"]) == (0, "preempted")


def test_what_a_trainer_leaves_behind_is_ended_and_its_code_kept(attempt: Path) -> None:
    leave = "setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' & sleep 0.2; exit 5"
    ending = run(attempt, "/bin/sh", "-c", leave)
    assert ending["code"] == 5
    assert ending["duration_seconds"] < 2
    assert marked(attempt) == []


def test_pid_json_names_the_processes_beyond_doubt(attempt: Path) -> None:
    write_launch(attempt, "/bin/sleep", "100")
    process = start_runner(attempt)
    eventually((attempt / "pid.json").exists)
    named = read(attempt, "pid.json")
    assert named["runner"] == {
        "pid": process.pid,
        "start_time": runner_processes.start_time(process.pid),
    }
    assert named["trainer"]["pid"] in marked(attempt)
    assert named["trainer"]["start_time"] == runner_processes.start_time(named["trainer"]["pid"])
    assert named["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    process.terminate()
    process.wait(20)


def full_disk(failures: int) -> tuple[Callable[..., int], list[str]]:
    """An os.open that refuses to create files so many times, and what it was asked for."""
    opened, asked = os.open, list[str]()

    def refusing(path: str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT:
            asked.append(path)
            if len(asked) <= failures:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        return opened(path, flags, mode)

    return refusing, asked


def test_the_exit_record_outlasts_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runner, "RETRY_SECONDS", 0.001)
    refusing, asked = full_disk(failures=3)
    with monkeypatch.context() as disk:
        disk.setattr(os, "open", refusing)
        runner.record({"code": 3})
    assert asked == ["exit.json.tmp"] * 4
    assert read(tmp_path, "exit.json") == {"code": 3}
    assert os.listdir(tmp_path) == ["exit.json"]


def test_a_full_disk_hides_a_trainer_only_until_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_launch(tmp_path, "/bin/sleep", "100")
    launch = runner.Launch((tmp_path / "launch.json").read_bytes(), str(tmp_path))
    watch = runner.Watch(os.getpid(), launch)
    refusing, asked = full_disk(failures=1)
    monkeypatch.setattr(os, "open", refusing)
    watch._publish()
    assert (watch.published, watch._sleep_seconds()) == (False, runner.RETRY_SECONDS)
    watch._publish()
    assert watch.published
    assert asked == ["pid.json.tmp"] * 2


def test_nobody_waits_to_record_into_a_deleted_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deleted = tmp_path / "deleted"
    deleted.mkdir()
    monkeypatch.chdir(deleted)
    shutil.rmtree(deleted)
    runner.record({"code": 3})
    assert not deleted.exists()


@pytest.fixture
def no_setsid_in_posix_spawn(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> int:
        raise NotImplementedError("setsid is not available on this platform")

    monkeypatch.setattr(os, "posix_spawn", refuse)


@pytest.mark.usefixtures("no_setsid_in_posix_spawn")
def test_a_python_without_setsid_in_posix_spawn_launches_all_the_same(tmp_path: Path) -> None:
    leads_its_session = ["/bin/sh", "-c", "exec [ $(cut -d' ' -f6 /proc/$$/stat) = $$ ]"]
    environment = {"PATH": os.defpath}
    assert os.waitpid(runner_processes.spawn("/bin/sh", leads_its_session, environment), 0)[1] == 0
    with pytest.raises(FileNotFoundError):
        runner_processes.spawn("/nowhere/trainer", ["/nowhere/trainer"], environment)


def test_a_stop_may_bring_a_grace_of_its_own_and_a_later_one_shortens_it(attempt: Path) -> None:
    script = "trap '' TERM; echo up; while :; do sleep 0.05; done"
    write_launch(attempt, "/bin/sh", "-c", script, grace_seconds=0)
    process = start_runner(attempt)
    eventually((attempt / "trainer.log").exists)
    eventually(lambda: (attempt / "trainer.log").read_text() == "up\n")
    (attempt / "stop.json").write_text('{"reason": "paused", "grace_seconds": 600}')
    process.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.7)
    (attempt / "stop.json").write_text('{"reason": "cancelled"}')
    process.terminate()
    process.wait(20)
    ending = read(attempt, "exit.json")
    assert (ending["code"], ending["stop_reason"]) == (-9, "cancelled")
