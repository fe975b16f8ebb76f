"""Says whose the processes on a GPU are, as far as that can be seen from here."""

from __future__ import annotations

import time
from pathlib import PurePath

import psutil

from training_cluster.domain.device import DeviceProcess


class ProcessTable:
    """Says whose a process is; asks the system once per process, not once per reading."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, float], tuple[str | None, str | None]] = {}
        self._met: set[tuple[int, float]] = set()

    def describe(self, pid: int, memory_bytes: int | None) -> DeviceProcess:
        """The process as far as it can be seen from here; it may have ended, or live outside
        our pid namespace."""
        try:
            process = psutil.Process(pid)
            identity = pid, process.create_time()
        except psutil.Error:
            return DeviceProcess(pid, memory_bytes)
        if identity not in self._known:
            self._known[identity] = _owner(process), _command(process)
        self._met.add(identity)
        age = max(0.0, time.time() - identity[1])
        return DeviceProcess(pid, memory_bytes, *self._known[identity], age)

    def forget_ended(self) -> None:
        """Keep only the processes met since the last call."""
        self._known = {key: facts for key, facts in self._known.items() if key in self._met}
        self._met = set()


def _owner(process: psutil.Process) -> str | None:
    try:
        return process.username()
    except psutil.Error:
        return None


def _command(process: psutil.Process) -> str | None:
    """The program and, for Python, its script or module. Further arguments may hold secrets."""
    try:
        words = process.cmdline()
        if not words or " " in words[0]:  # a zombie, or a title the process gave itself
            return process.name()
    except psutil.Error:
        return None
    program = PurePath(words[0]).name
    script = _script(words[1:]) if program.startswith("python") else None
    return f"{program} {script}" if script else program


def _script(arguments: list[str]) -> str | None:
    words = iter(arguments)
    for word in words:
        if word in ("-c", "-m"):
            return f"-m {next(words, '')}" if word == "-m" else "-c"
        if word in ("-W", "-X"):
            next(words, None)
        elif not word.startswith("-"):
            return PurePath(word).name
    return None
