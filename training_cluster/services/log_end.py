"""The last lines of an attempt's log, short and harmless enough for a message."""

from __future__ import annotations

from pathlib import Path

from training_cluster.services.log_files import LOG_NAME
from training_cluster.services.log_text import readable

_READ_BYTES = 64 << 10
_MOST_CHARACTERS = 500


def last_lines(directory: Path, count: int) -> list[str]:
    """Up to `count` last lines of the log in an attempt's directory that say something, none when
    there is no log. A progress bar counts as the line it was in the end."""
    try:
        with (directory / LOG_NAME).open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _READ_BYTES))
            data = file.read(_READ_BYTES)
    except OSError:
        return []
    lines = (line[:_MOST_CHARACTERS].rstrip() for line in readable(data).split("\n"))
    return [line for line in lines if line.strip()][-count:]
