"""Tokens for the hub, one file a dataset that only the daemon's user can read, until it is fetched.

They are never in the database, which is copied and looked into, nor on a command line.
"""

from __future__ import annotations

import os
from pathlib import Path


class HubTokens:
    """The files of one folder. All calls are for threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, name: str, token: str) -> None:
        """Keep a token."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        with open(os.open(self._folder / name, flags, 0o600), "w", encoding="utf-8") as file:
            file.write(token)

    def read(self, name: str) -> str | None:
        """The token that was kept under a name, if any."""
        try:
            return (self._folder / name).read_text("utf-8")
        except FileNotFoundError:
            return None

    def remove(self, name: str) -> None:
        """Forget a token; harmless when there is none."""
        (self._folder / name).unlink(missing_ok=True)
