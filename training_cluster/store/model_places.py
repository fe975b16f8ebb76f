"""Under which name and version a model is registered: names belong to who came first."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from itertools import count

from training_cluster.domain.model import counted_version, label, version_name

_OWNER = "SELECT user FROM models WHERE name = ? ORDER BY number LIMIT 1"
_VERSIONS = "SELECT version FROM models WHERE name = ?"
_ALIASES = "SELECT alias FROM model_aliases WHERE name = ?"


@dataclass(frozen=True, slots=True)
class Place:
    """A free name and version; `warning` says why it is not what was asked for."""

    name: str
    version: str
    warning: str | None = None


def find_place(
    connection: sqlite3.Connection, wanted: str, wanted_version: str, user: str
) -> Place:
    """The place of a user's model who asked for this name and, if it is not empty, version.

    A name that is somebody else's is not added to: what it stands for is theirs to say. Versions
    are never used again, those of deleted models neither."""
    name = _own_name(connection, wanted, user)
    taken = {row[0] for row in connection.execute(_VERSIONS, (name,))}
    aliases = {row[0] for row in connection.execute(_ALIASES, (name,))}
    asked = version_name(wanted_version)
    if asked and asked not in taken | aliases:
        version = asked
    else:
        version = f"v{max(map(counted_version, taken), default=0) + 1}"
    return Place(name, version, _warning(wanted, name, asked, version))


def _own_name(connection: sqlite3.Connection, wanted: str, user: str) -> str:
    own = f"{wanted}-{label(user) or 'user'}"
    for name in (wanted, own, *(f"{own}-{n}" for n in range(2, 10))):
        if _owner(connection, name) in (None, user):
            return name
    return next(name for n in count(10) if _owner(connection, name := f"{own}-{n}") is None)


def _owner(connection: sqlite3.Connection, name: str) -> str | None:
    row = connection.execute(_OWNER, (name,)).fetchone()
    return None if row is None else str(row[0])


def _warning(wanted: str, name: str, asked: str, version: str) -> str | None:
    if name != wanted:
        return (
            f"models called {wanted} belong to somebody else: this one is registered as "
            f"{name}@{version}"
        )
    if asked and version != asked:
        return f"{name}@{asked} is there already: this model is registered as {name}@{version}"
    return None
