"""Serves parts of an attempt's log file."""

from __future__ import annotations

import asyncio
from pathlib import Path

from fastapi import Response

from training_cluster.domain.errors import NotFound
from training_cluster.domain.job import Attempt
from training_cluster.services.jobs import Overview

LOG_NAME = "trainer.log"
_MOST_BYTES = 4 << 20
_BLOCK = 64 << 10


async def answer_with_log(
    overview: Overview, *, attempt: int | None, tail: int | None, offset: int
) -> Response:
    """A part of a log: the last `tail` lines, or up to 4 MiB from byte `offset`.

    Raises NotFound when the job has no such attempt; a job that has not run has an empty log."""
    chosen = _choose(overview, attempt)
    data, end = b"", 0
    if chosen is not None:
        path = Path(chosen.directory) / LOG_NAME
        data, end = await asyncio.to_thread(read_part, path, tail, offset)
    headers = {"X-Next-Offset": str(end), "X-Job-Status": overview.job.state.value}
    if chosen is not None:
        headers["X-Attempt"] = str(chosen.ref.number)
    return Response(data, 200, headers, "text/plain; charset=utf-8")


def _choose(overview: Overview, number: int | None) -> Attempt | None:
    if number is None:
        return overview.attempts[-1] if overview.attempts else None
    for attempt in overview.attempts:
        if attempt.ref.number == number:
            return attempt
    raise NotFound(f"job {overview.job.number} has no attempt {number}")


def read_part(path: Path, tail: int | None, offset: int) -> tuple[bytes, int]:
    """Bytes of a file and the offset behind them; an absent file is empty."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            start = offset if tail is None else _tail_start(path, size, tail)
            file.seek(min(start, size))
            data = file.read(_MOST_BYTES)
            return data, file.tell()
    except FileNotFoundError:
        return b"", 0


def _tail_start(path: Path, size: int, lines: int) -> int:
    """Where the last `lines` lines of a file begin, at most 4 MiB before its end."""
    if lines == 0:
        return size
    kept = b""
    position = size
    with path.open("rb") as file:
        while position > 0 and len(kept) < _MOST_BYTES:
            step = min(_BLOCK, position)
            position -= step
            file.seek(position)
            kept = file.read(step) + kept
            if kept[:-1].count(b"\n") >= lines:
                break
    ends = [index for index, byte in enumerate(kept[:-1]) if byte == 0x0A]
    if len(ends) < lines:
        return position
    return position + ends[-lines] + 1
