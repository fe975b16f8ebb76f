"""What a process costs while it runs: memory, processor time, wake-ups."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Memory:
    """Megabytes (10^6 bytes): resident now, resident at most so far, and the proportional share."""

    resident_mb: float
    peak_mb: float
    proportional_mb: float


@dataclass(frozen=True, slots=True)
class Activity:
    """What a process has used since it began."""

    at: float
    cpu_ns: int
    wakeups: int

    def since(self, earlier: Activity) -> tuple[float, float]:
        """Percent of one core, and voluntary context switches a second."""
        seconds = self.at - earlier.at
        percent = (self.cpu_ns - earlier.cpu_ns) / 1e7 / seconds
        return percent, (self.wakeups - earlier.wakeups) / seconds


def memory(pid: int) -> Memory:
    """The memory of one process: proc_pid_status(5), proc_pid_smaps(5)."""
    status = Path(f"/proc/{pid}/status").read_text()
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return Memory(_mb(status, "VmRSS"), _mb(status, "VmHWM"), _mb(rollup, "Pss"))


def activity(pid: int) -> Activity:
    """Processor time of all threads ever, context switches of those that live."""
    # a process's CPU clock in nanoseconds, the id made as in clock_getcpuclockid(3)
    cpu_ns = time.clock_gettime_ns((~pid << 3) | 2)
    statuses = (path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/status"))
    wakeups = sum(_number(text, "voluntary_ctxt_switches") for text in statuses)
    return Activity(time.monotonic(), cpu_ns, wakeups)


def fork_server(pid: int) -> int:
    """The pid of a daemon's fork server. Raises RuntimeError if it has none."""
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in path.read_text().split():
            if b"fork_server" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
    raise RuntimeError(f"process {pid} has no fork server")


def _mb(text: str, name: str) -> float:
    return _number(text, name) * 1024 / 1e6


def _number(text: str, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+)", text, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"the kernel does not tell {name}")
    return int(found[1])
