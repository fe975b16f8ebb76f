"""The token a command shows to the daemon: from a flag, from a file, or from the environment.

Other users of a machine can read command lines: a file that only its owner can read, or the
environment, is the better place.
"""

from __future__ import annotations

import os
from pathlib import Path

FLAGS = ("--token", "--token-file")
TOKEN_VARIABLE = "TRAINING_CLUSTER_TOKEN"  # noqa: S105
FILE_VARIABLE = "TRAINING_CLUSTER_TOKEN_FILE"
_OTHERS_BITS = 0o077


class Credentials:
    """What the command line says; the environment is asked when it says nothing."""

    def __init__(self) -> None:
        self._token: str | None = None
        self._file: Path | None = None

    def choose(self, token: str | None, file: Path | None) -> None:
        """Take up the flags."""
        self._token, self._file = token, file

    def token(self) -> str | None:
        """The token to show; None for none. Raises ClientError for a file that others can read,
        and OSError for one that cannot be read at all."""
        if self._token or self._file:
            return self._token or _read(self._file or Path())
        named = os.environ.get(FILE_VARIABLE)
        return os.environ.get(TOKEN_VARIABLE) or (_read(Path(named)) if named else None)


chosen = Credentials()


def flags_first(words: list[str]) -> list[str]:
    """The same command line with the flags of this module in front, where they belong to the
    program: people write them behind the command too."""
    front, rest, left = list[str](), list[str](), list(words)
    while left and left[0] != "--":
        word = left.pop(0)
        if word in FLAGS:
            front += [word, *left[:1]]
            del left[:1]
        else:
            (front if word.startswith(tuple(f"{flag}=" for flag in FLAGS)) else rest).append(word)
    return [*front, *rest, *left]


def _read(file: Path) -> str:
    from training_cluster.client import ClientError

    with file.expanduser().open() as opened:
        if os.fstat(opened.fileno()).st_mode & _OTHERS_BITS:
            raise ClientError(
                f"{file} holds a token and others can read it", hint=f"chmod 600 {file}"
            )
        return opened.read().strip()
