"""Parent of one attempt: launches its trainer at most once and records how it ended.

Started as `python -I -S runner.py DIRECTORY`, or forked by `fork_server.py`. It outlives the daemon
and meets it only in the files of the attempt's directory:

    launch.json   argv, environment, grace_seconds, max_seconds; its removal revokes the launch
    lock          flocked by the runner from before the launch until its own end
    started       created exclusively before the trainer is spawned, so there is one launch at most
    trainer.log   stdout and stderr of the trainer, and of a runner that fails
    pid.json      pid and start time of runner and trainer, and the boot id
    stop.json     why the attempt is to stop, perhaps with a grace of its own; the daemon writes it
                  before it sends SIGTERM, and again with a shorter grace before another SIGTERM
    exit.json     how the trainer ended; written once no process of the attempt is left

A runner forked by the fork server also tells its daemon, over a socket, what exit.json will say.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import math
import os
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from training_cluster import runner_processes as processes
    from training_cluster.crash_points import crash_point
else:  # -I and -S hide our package; appended, so that nothing here can shadow the stdlib
    sys.path.append(os.path.dirname(os.path.abspath(__file__)))
    import runner_processes as processes
    from crash_points import crash_point

MARKER = "TRAINING_CLUSTER_ATTEMPT"
LEFTOVER_GRACE_SECONDS = 5.0
RETRY_SECONDS = 1.0
LONGEST_SLEEP_SECONDS = 60.0
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h

STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})
HANDLED_SIGNALS = STOP_SIGNALS | {signal.SIGHUP, signal.SIGCHLD}

RECORDED, STARTED_BEFORE, REVOKED, ABANDONED = 0, 3, 4, 5

_libc = ctypes.CDLL(None, use_errno=True)


class Launch:
    """What launch.json asks for."""

    def __init__(self, text: bytes, directory: str) -> None:
        raw = json.loads(text)
        self.argv: list[str] = raw["argv"]
        self.environment: dict[str, str] = {**raw["environment"], MARKER: directory}
        self.grace_seconds = float(raw["grace_seconds"])
        self.program = processes.executable(self.argv[0], self.environment)
        limit = raw.get("max_seconds")
        self.max_seconds = math.inf if limit is None else float(limit)


# -- files of the attempt: the working directory of a runner is the attempt's directory


def write_atomically(name: str, content: dict[str, object], *, durable: bool) -> None:
    """Replace a file as a whole; a durable one is on the disk when this returns."""
    temporary = os.open(f"{name}.tmp", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with open(temporary, "wb", closefd=False) as file:
            file.write(json.dumps(content).encode())
        if durable:
            os.fsync(temporary)
    finally:
        os.close(temporary)
    os.rename(f"{name}.tmp", name)
    if durable:
        sync_directory()


def sync_directory() -> None:
    directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def record(ending: dict[str, object]) -> None:
    """Write exit.json, however long the disk stays full; the lock is held meanwhile."""
    while True:
        try:
            return write_atomically("exit.json", ending, durable=True)
        except OSError:
            if os.stat(".").st_nlink == 0:  # the attempt's directory was deleted
                return None
            time.sleep(RETRY_SECONDS)


def requested_stop() -> str | None:
    """The reason in stop.json; None when nobody asked for a stop."""
    try:
        return str(json.loads(processes.read_file("stop.json"))["reason"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def requested_grace(otherwise: float) -> float:
    """The seconds stop.json leaves between TERM and KILL, those of the launch if it names none."""
    try:
        return float(json.loads(processes.read_file("stop.json"))["grace_seconds"])
    except (OSError, ValueError, LookupError, TypeError):
        return otherwise


def take_lock() -> int | None:
    """Lock the attempt for the life of this process; None if it was started before."""
    lock = os.open("lock", os.O_RDWR | os.O_CREAT, 0o600)
    while not os.path.exists("started"):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.001)  # the daemon tests the lock by holding it for an instant
        else:
            return lock
    return None


def claim() -> None:
    """Mark the attempt as started; raises FileExistsError if it was started before.

    It is put on the disk after the spawn: no process lives through a power cut."""
    os.close(os.open("started", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


class Watch:
    """Follows a trainer to the end of its whole process tree."""

    def __init__(self, trainer: int, launch: Launch) -> None:
        self.spawned_ns, self.started_at = time.monotonic_ns(), time.time()
        self.ended_ns, self.ended_at = self.spawned_ns, self.started_at
        self.trainer, self.grace_seconds = trainer, launch.grace_seconds
        self.limit_at = self.spawned_ns / 1e9 + launch.max_seconds
        self.code: int | None = None
        self.stop_reason: str | None = None
        self.told_to_stop = self.winding_down = self.published = False
        self.kill_at, self.kill_pause = math.inf, 0.02

    def follow(self) -> None:
        """Return when no process of the attempt is left."""
        while self._reap():
            if not self.published:
                self._publish()
            self._act(time.monotonic())
            received = signal.sigtimedwait(HANDLED_SIGNALS, self._sleep_seconds())
            if received is not None and received.si_signo in STOP_SIGNALS:
                self._be_told(time.monotonic())

    def ending(self) -> dict[str, object]:
        return {
            "code": self.code,
            "stop_reason": self.stop_reason or requested_stop(),
            "exec_error": None,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "duration_seconds": (self.ended_ns - self.spawned_ns) / 1e9,
            "spawned_monotonic_ns": self.spawned_ns,
            "ended_monotonic_ns": self.ended_ns,
        }

    def _reap(self) -> bool:
        """Collect the dead; as a subreaper we have a child as long as any descendant lives."""
        try:
            while (reaped := os.waitpid(-1, os.WNOHANG))[0]:
                if reaped[0] == self.trainer:
                    self.code = os.waitstatus_to_exitcode(reaped[1])
                    self.ended_ns, self.ended_at = time.monotonic_ns(), time.time()
        except ChildProcessError:
            return False
        return True

    def _be_told(self, now: float) -> None:
        """Stop; if that was said before, the one who insists may shorten the grace."""
        if self.winding_down:
            self.kill_at = min(self.kill_at, now + requested_grace(self.grace_seconds))
        self.told_to_stop = True

    def _act(self, now: float) -> None:
        if self.winding_down:
            if now >= self.kill_at:
                self._signal_all(signal.SIGKILL)
                self.kill_at, self.kill_pause = now + self.kill_pause, min(1, 2 * self.kill_pause)
        elif self.code is not None:
            self._wind_down(now, min(self.grace_seconds, LEFTOVER_GRACE_SECONDS))
        elif self.told_to_stop or now >= self.limit_at:
            self.stop_reason = None if self.told_to_stop else "timed_out"
            grace = requested_grace(self.grace_seconds) if self.told_to_stop else self.grace_seconds
            self._wind_down(now, grace)

    def _wind_down(self, now: float, grace_seconds: float) -> None:
        self.winding_down, self.kill_at = True, now + grace_seconds
        self._signal_all(signal.SIGTERM)

    def _signal_all(self, number: signal.Signals) -> None:
        for pid, started in processes.descendants(os.getpid()):
            processes.send_signal(pid, started, number)

    def _sleep_seconds(self) -> float:
        wake_at = self.kill_at if self.winding_down else self.limit_at
        if self.told_to_stop and not self.winding_down:
            return 0.0
        longest = LONGEST_SLEEP_SECONDS if self.published else RETRY_SECONDS
        return max(0.0, min(wake_at - time.monotonic(), longest))

    def _publish(self) -> None:
        """Write pid.json, then look for a stop: the daemon writes stop.json, then reads pid.json,
        so that one of the two always sees the other."""
        with contextlib.suppress(OSError):
            identities = {
                name: {"pid": pid, "start_time": processes.start_time(pid)}
                for name, pid in (("runner", os.getpid()), ("trainer", self.trainer))
            }
            boot_id = processes.read_file("/proc/sys/kernel/random/boot_id").decode().strip()
            write_atomically("pid.json", {**identities, "boot_id": boot_id}, durable=False)
            self.published = True
            self.told_to_stop = requested_stop() is not None


# -- the runner


def detach(keep: int | None = None) -> None:
    """Keep nothing of whoever started this process but its environment and one descriptor."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED_SIGNALS)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with contextlib.suppress(PermissionError):  # leads a process group, as under a shell
        os.setsid()
    if _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot become a child subreaper")
    redirect(os.open(os.devnull, os.O_RDWR), 0, 1, 2)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != keep:
            with contextlib.suppress(OSError):  # the listing itself is closed already
                os.close(int(name))


def redirect(source: int, *targets: int) -> None:
    for target in targets:
        os.dup2(source, target)
    os.close(source)


def unlaunched(**facts: object) -> dict[str, object]:
    """The exit record of an attempt whose trainer never ran."""
    times = dict.fromkeys(("started_at", "duration_seconds", "spawned_monotonic_ns"))
    ended = {"ended_at": time.time(), "ended_monotonic_ns": time.monotonic_ns()}
    reason = {"stop_reason": requested_stop()}
    return {"code": None, "exec_error": None, **times, **ended, **reason, **facts}


def execute(launch: Launch) -> dict[str, object]:
    """Run a claimed attempt to its end; returns what exit.json is to say."""
    if requested_stop() is not None:
        return unlaunched(code=-signal.SIGTERM)  # as if the stop had come an instant later
    try:
        trainer = processes.spawn(launch.program, launch.argv, launch.environment)
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        return unlaunched(exec_error=f"cannot execute {launch.argv[:1]}: {cause}")
    crash_point("runner.spawned")
    watch = Watch(trainer, launch)
    with contextlib.suppress(OSError):  # a disk that fails now is met again by exit.json
        sync_directory()
    watch.follow()
    return watch.ending()


def run(
    directory: str,
    tell: Callable[[bytes], object] | None = None,
    may_start: Callable[[], bool] = lambda: True,
) -> int:
    """Execute the attempt in `directory` unless it was started before or revoked.

    The process must be detached. `tell` gets the content of exit.json ahead of the disk.
    `may_start` is asked when all is ready; if it says no, the attempt stays unstarted."""
    os.chdir(directory)
    redirect(os.open("trainer.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 1, 2)
    lock = take_lock()
    if lock is None:
        return STARTED_BEFORE
    try:
        launch = Launch(processes.read_file("launch.json"), os.getcwd())
        if not may_start():
            return ABANDONED
        claim()
    except FileExistsError:
        return STARTED_BEFORE
    except FileNotFoundError:
        return REVOKED
    crash_point("runner.started")
    ending = execute(launch)
    crash_point("runner.ended")
    if tell is not None:
        with contextlib.suppress(OSError):  # nobody listens any more: the file tells the next one
            tell(json.dumps(ending).encode())
    crash_point("runner.told")
    record(ending)
    return RECORDED


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or not os.path.isdir(arguments[0]):
        sys.stderr.write("usage: runner.py ATTEMPT_DIRECTORY\n")
        return 2
    detach()
    return run(arguments[0])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
