"""Paths in answers as whoever asked can follow them: below the prefix a proxy has taken away."""

from __future__ import annotations

from contextvars import ContextVar

_PREFIX: ContextVar[str] = ContextVar("prefix", default="")


def begin_at(prefix: str) -> None:
    """Let the links of the request that is being answered begin with this."""
    _PREFIX.set(prefix)


def link(path: str) -> str:
    """A path of ours as the one who asked can follow it."""
    return _PREFIX.get() + path
