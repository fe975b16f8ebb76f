"""A log that grows too large loses its middle; writer, size and cursors never notice."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from training_cluster.services import log_cap
from training_cluster.services.log_cap import LogCap
from training_cluster.services.log_files import LOG_NAME, opened, read_text

MIB = 1 << 20
LINE = 100

WRITER = """
import os, sys
path, count, flags = sys.argv[1], int(sys.argv[2]), os.O_WRONLY | os.O_CREAT
file = os.open(path, flags | (os.O_APPEND if sys.argv[3] == "append" else 0))
for first in range(0, count, 1000):
    os.write(file, b"".join(b"%099d\\n" % n for n in range(first, first + 1000)))
"""


@contextmanager
def writing(log: Path, mib: int, mode: str) -> Iterator[Callable[[], bool]]:
    """A process that writes numbered lines; gives whether it still does."""
    count = mib * MIB // LINE // 1000 * 1000
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(log), str(count), mode])
    try:
        yield lambda: process.poll() is None
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()


def cap(*directories: Path, most_bytes: int) -> LogCap:
    async def active() -> tuple[Path, ...]:
        return directories

    return LogCap(active, most_bytes)


def on_disk(log: Path) -> int:
    return log.stat().st_blocks * 512


def holes(log: Path) -> list[tuple[int, int]]:
    """Begin and end of each."""
    found, position = [], 0
    with opened(log) as file:
        assert file is not None
        while position < file.size:
            start, end = file.stretch(position)
            if start > position:
                found.append((position, start))
            position = end
    return found


def resident_bytes() -> int:
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


async def follow_while_it_is_cut(folder: Path, mib: int, mode: str, most: int) -> None:
    """A writer, a reader and the cap at once: every line that was not given up is read, in order
    and whole, and what was given up is announced."""
    log, capping = folder / LOG_NAME, cap(folder, most_bytes=most)
    offset, notices, lines, odd, most_taken = 0, 0, 0, 0, 0
    last = -1
    before = resident_bytes()
    with writing(log, mib, mode) as goes_on:
        more = True
        while more:
            more = goes_on()
            most_taken = max(most_taken, on_disk(log)) if log.exists() else 0
            await capping.run_once()
            while True:
                part = read_text(log, offset, most=1 << 16)
                for line in part.text.splitlines():
                    notices += "given up" in line
                    if len(line) != LINE - 1:
                        odd += 1
                    elif int(line) > last:
                        lines, last = lines + 1, int(line)
                    else:
                        raise AssertionError(f"{line} after {last}")
                if part.end == offset:
                    break
                offset = part.end
    size = log.stat().st_size
    assert size == offset == mib * MIB // LINE // 1000 * 1000 * LINE
    assert last == size // LINE - 1
    assert odd <= 3 * notices
    assert resident_bytes() - before < 20 * MIB
    await capping.run_once()
    assert on_disk(log) <= most
    begin, end = holes(log)[0][0], holes(log)[-1][1]
    assert begin == min(MIB, most // 4)
    assert size - end >= most // 2 - 8192, "the last part is there"
    assert size - end <= most


@pytest.mark.parametrize("mode", ["append", "at its own offset"])
async def test_a_writer_and_a_reader_never_notice(tmp_path: Path, mode: str) -> None:
    await follow_while_it_is_cut(tmp_path, 50, mode, 8 * MIB)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["append", "at its own offset"])
async def test_a_writer_of_a_gigabyte_and_a_reader_never_notice(tmp_path: Path, mode: str) -> None:
    await follow_while_it_is_cut(tmp_path, 1024, mode, 64 * MIB)


async def test_what_is_kept_is_exact(tmp_path: Path) -> None:
    log = tmp_path / LOG_NAME
    raw = os.urandom(10 * MIB)
    log.write_bytes(raw)
    await cap(tmp_path, most_bytes=4 * MIB).run_once()
    now = log.read_bytes()
    assert len(now) == len(raw)
    ((begin, end),) = holes(log)
    assert begin == MIB
    assert now[:begin] == raw[:begin]
    assert now[end:] == raw[end:]
    assert on_disk(log) == begin + len(raw) - end <= 4 * MIB


async def test_a_log_within_its_limit_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / LOG_NAME).write_bytes(b"x" * MIB)
    await cap(tmp_path, tmp_path / "not yet there", most_bytes=2 * MIB).run_once()
    assert holes(tmp_path / LOG_NAME) == []


async def test_a_log_near_its_limit_is_looked_at_sooner(tmp_path: Path) -> None:
    capping = cap(tmp_path, most_bytes=4 * MIB)
    (tmp_path / LOG_NAME).write_bytes(b"x" * MIB)
    await capping.run_once()
    seldom = capping.delay()
    (tmp_path / LOG_NAME).write_bytes(b"x" * 4 * MIB)
    await capping.run_once()
    assert seldom is not None
    assert capping.delay() is not None
    assert capping.delay() < seldom  # type: ignore[operator]


async def test_an_attempt_that_has_ended_is_looked_at_once_more(tmp_path: Path) -> None:
    log, running = tmp_path / LOG_NAME, [tmp_path]

    async def active() -> list[Path]:
        return running

    capping = LogCap(active, MIB)
    await capping.run_once()
    log.write_bytes(b"x" * 9 * MIB)
    running.clear()
    await capping.run_once()
    assert on_disk(log) <= MIB


async def test_without_a_limit_nothing_is_cut(tmp_path: Path) -> None:
    log = tmp_path / LOG_NAME
    log.write_bytes(b"x" * MIB)
    capping = cap(tmp_path, most_bytes=0)
    await capping.run_once()
    assert capping.delay() is None
    assert holes(log) == []


async def test_only_a_plain_file_is_cut(tmp_path: Path) -> None:
    other = tmp_path / "somebody's data"
    other.write_bytes(b"x" * 3 * MIB)
    (tmp_path / LOG_NAME).symlink_to(other)
    await cap(tmp_path, most_bytes=MIB).run_once()
    assert holes(other) == []


async def test_a_file_system_without_holes_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(log_cap, "_punch", refuse)
    (tmp_path / LOG_NAME).write_bytes(b"x" * 3 * MIB)
    capping = cap(tmp_path, most_bytes=MIB)
    with capture_logs() as said:
        await capping.run_once()
        await capping.run_once()
    assert [entry["action"] for entry in said] == ["logs.unlimited"]
    assert said[0]["log_level"] == "warning"
