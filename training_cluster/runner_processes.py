"""The runner's view of processes: start one in a session of its own, find its descendants, signal
them by identity. Stdlib only, as the runner.
"""

from __future__ import annotations

import contextlib
import os
import signal

TRAINER_OOM_SCORE = 500
DISPOSITIONS = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}


def read_file(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def process_table() -> dict[int, tuple[int, int]]:
    """Parent and start time (clock ticks after boot) of every process, by pid."""
    table = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                fields = read_file(f"/proc/{name}/stat").rpartition(b")")[2].split()
                table[int(name)] = (int(fields[1]), int(fields[19]))
    return table


def start_time(pid: int) -> int:
    return int(read_file(f"/proc/{pid}/stat").rpartition(b")")[2].split()[19])


def descendants(root: int) -> list[tuple[int, int]]:
    """Pid and start time of all processes below `root`, those in other sessions too."""
    table, found, parents = process_table(), list[tuple[int, int]](), {root}
    while parents:
        level = {pid for pid, (parent, _) in table.items() if parent in parents}
        found += [(pid, table.pop(pid)[1]) for pid in level]
        parents = level
    return found


def send_signal(pid: int, started: int, number: signal.Signals) -> None:
    """Signal a process, but never another one that got its pid."""
    with contextlib.suppress(OSError):
        handle = os.pidfd_open(pid)
        try:
            if start_time(pid) == started:
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)


def executable(name: str, environment: dict[str, str]) -> str:
    """Find a program on the trainer's own PATH, not on the runner's."""
    if "/" in name:
        return name
    places = (os.path.join(place, name) for place in os.get_exec_path(environment))
    return next((path for path in places if os.access(path, os.X_OK)), name)


def spawn(path: str, argv: list[str], environment: dict[str, str]) -> int:
    """Start the trainer in a session of its own. It inherits the runner's stdio."""
    try:
        pid = os.posix_spawn(
            path,
            argv,
            environment,
            setsid=True,
            setsigmask=(),
            setsigdef=DISPOSITIONS,
        )
    except NotImplementedError:  # a Python built against glibc < 2.26 has no setsid here
        pid = fork_and_exec(path, argv, environment)
    with contextlib.suppress(OSError), open(f"/proc/{pid}/oom_score_adj", "w") as file:
        file.write(str(TRAINER_OOM_SCORE))
    return pid


def fork_and_exec(path: str, argv: list[str], environment: dict[str, str]) -> int:
    """What posix_spawn does, slower."""
    failure_reader, failure_writer = os.pipe()  # closed by a successful exec
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            for number in DISPOSITIONS:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            os.execve(path, argv, environment)  # noqa: S606
        except OSError as error:
            os.write(failure_writer, str(error.errno).encode())
        finally:
            os._exit(127)
    os.close(failure_writer)
    with open(failure_reader, "rb") as file:
        failure = file.read()
    if failure:
        os.waitpid(pid, 0)
        raise OSError(int(failure), os.strerror(int(failure)), path)
    return pid
