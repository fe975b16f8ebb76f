"""The last lines of an attempt's log, short and harmless enough for a message."""

from __future__ import annotations

import re
from pathlib import Path

LOG_NAME = "trainer.log"

_READ_BYTES = 64 << 10
_MOST_CHARACTERS = 500
# escape sequences whole, then whatever control character is left but the tab
_STEERING = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|[\x00-\x08\x0a-\x1f\x7f-\x9f]"
)


def last_lines(directory: Path, count: int) -> list[str]:
    """Up to `count` last lines of the log in an attempt's directory that say something, none when
    there is no log. A progress bar counts as the line it was in the end."""
    try:
        with (directory / LOG_NAME).open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _READ_BYTES))
            data = file.read(_READ_BYTES)
    except OSError:
        return []
    lines = (_readable(line) for line in data.decode("utf-8", "replace").split("\n"))
    return [line for line in lines if line.strip()][-count:]


def _readable(line: str) -> str:
    states = [state for state in line.split("\r") if state.strip()]
    return _STEERING.sub("", states[-1] if states else "")[:_MOST_CHARACTERS].rstrip()
