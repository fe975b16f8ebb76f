"""Makes the trivial trainer and reads the stamps it leaves: when each run began and ended."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_STAMP_BYTES = 23


@dataclass(frozen=True, slots=True)
class Run:
    """One execution of the trainer, in nanoseconds of CLOCK_MONOTONIC."""

    start_ns: int
    end_ns: int


def build(directory: Path) -> list[str]:
    """The command of the trainer: compiled where there is a compiler, Python otherwise."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return [sys.executable, "-I", "-S", str(_HERE / "trivial_trainer.py")]
    program = directory / "trivial_trainer"
    source = _HERE / "trivial_trainer.c"
    subprocess.run([compiler, "-O2", "-o", program, source], check=True)
    return [str(program)]


class Trainer:
    """The trainer with its stamps file and its gate, which is open until `shut` is called."""

    def __init__(self, command: list[str], directory: Path, seconds: float = 0.0) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.stamps = directory / "stamps"
        self._gate = directory / "gate"
        self._opened: int | None = None
        self.stamps.touch()
        microseconds = str(int(seconds * 1e6))
        self.command = [*command, str(self.stamps), str(self._gate), microseconds]

    def shut(self) -> None:
        """Have every run wait once it has stamped its start."""
        os.mkfifo(self._gate)

    def open(self) -> None:
        """Let the waiting runs and all later ones pass; may be called twice."""
        if self._gate.exists():
            # kept open: a run that has looked the gate up already finds a writer
            self._opened = os.open(self._gate, os.O_RDWR | os.O_CLOEXEC)
            self._gate.unlink()

    def close(self) -> None:
        """Let everything pass and wait until no run is under way."""
        self.open()
        wait_until(lambda: self.started == self.ended, 30, "every trainer to end")
        if self._opened is not None:
            os.close(self._opened)
            self._opened = None

    @property
    def started(self) -> int:
        """How many runs have begun."""
        return self.stamps.read_bytes().count(b"S")

    @property
    def ended(self) -> int:
        """How many runs have ended."""
        return self.stamps.read_bytes().count(b"E")

    def wait_for(self, runs: int, seconds: float) -> None:
        """Return when so many runs have ended; looks at the file's size and disturbs nobody."""
        size = runs * 2 * _STAMP_BYTES
        wait_until(lambda: self.stamps.stat().st_size >= size, seconds, f"{runs} runs to end")

    def runs(self) -> list[Run]:
        """All runs in order. Raises RuntimeError when two overlapped."""
        words = self.stamps.read_text().split()
        kinds, times = words[::2], [int(word) for word in words[1::2]]
        if kinds != ["S", "E"] * (len(kinds) // 2):
            raise RuntimeError(f"{self.stamps}: two runs overlapped on one slot")
        return [Run(*pair) for pair in zip(times[::2], times[1::2], strict=True)]


def gaps_ms(runs: list[Run]) -> list[float]:
    """Milliseconds from the end of each run to the start of the next."""
    return [(b.start_ns - a.end_ns) / 1e6 for a, b in itertools.pairwise(runs)]


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Return when `condition()` holds. Raises TimeoutError, naming what did not come."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(0.02)
