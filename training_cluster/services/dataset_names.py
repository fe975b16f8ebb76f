"""Gives a new version its name and number, and refuses what cannot be before its file comes."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from itertools import count

from training_cluster.domain.dataset import (
    FORMATS,
    NAME,
    ROLES,
    NewDataset,
    name_from,
    next_version,
)
from training_cluster.domain.dataset_errors import DatasetNotFound, NameTaken
from training_cluster.domain.errors import FieldProblem, InvalidRequest
from training_cluster.domain.ids import is_job_id
from training_cluster.store import datasets

_KINDS = {"format": "format", "columns": "role of a column"}
_EXPECTED = "1 to 64 letters, digits, dots, dashes and underscores, not digits alone"


def require_plain(new: NewDataset, folders: Collection[str]) -> None:
    """Raise InvalidRequest for a name or a version that could not be told from other keys, and for
    formats and roles there are none of: nobody is to hear of them after an hour of sending."""
    _require_known("format", () if new.format is None else (new.format,), FORMATS)
    _require_known("columns", new.columns, ROLES)
    for field, value in (("name", new.name), ("version", new.version)):
        if value is not None and not _is_plain(value, field):
            message = f"{field} {value[:80]!r} is not a name for a dataset"
            raise InvalidRequest(message, problems=(FieldProblem(field, message, _EXPECTED),))
    if new.name is not None and new.name in folders:
        message = f"{new.name!r} is a version registered in a folder"
        raise InvalidRequest(message, problems=(FieldProblem("name", message, "another name"),))


def _require_known(field: str, said: Iterable[str], known: Collection[str]) -> None:
    for each in said:
        if each not in known:
            near = get_close_matches(each, known, n=1)
            guess = f", did you mean {near[0]!r}" if near else ""
            message = f"{each[:80]!r} is no {_KINDS[field]}{guess}"
            problem = FieldProblem(field, message, "one of " + ", ".join(known))
            raise InvalidRequest(message, problems=(problem,))


def _is_plain(value: str, field: str) -> bool:
    if not NAME.fullmatch(value):
        return False
    return field == "version" or not (value.isdigit() or is_job_id(value.lower()))


def nearest(
    missing: DatasetNotFound, key: str, known: Collection[str], folders: Collection[str]
) -> DatasetNotFound:
    """The error for a key there is nothing for, with what may have been meant."""
    if key in folders:
        return DatasetNotFound(
            f"{key!r} is registered in a folder below a dataset root, and was not handed in",
            hint="jobs name it as it is; GET /datasets lists what was handed in",
        )
    near = get_close_matches(key.partition("@")[0], known, n=1)
    hint = f"{missing.hint}; did you mean {near[0]!r}?" if near else missing.hint
    return DatasetNotFound(missing.message, hint=hint)


def choose(
    connection: sqlite3.Connection, new: NewDataset, folders: Collection[str]
) -> tuple[str, str]:
    """Name and version, both free. Raises NameTaken."""
    name = new.name or _own_name(connection, new, folders)
    owner = datasets.owner_of(connection, name)
    if owner not in (None, new.user):
        raise NameTaken(f"the name {name} is {owner}'s", hint="choose another name")
    taken = datasets.versions_of(connection, name)
    version = new.version or next_version(taken)
    if version in taken:
        raise NameTaken(
            f"{name}@{version} exists, or has existed: a version never changes",
            hint=f"leave the version out to make {next_version(taken)}",
        )
    return name, version


def _own_name(connection: sqlite3.Connection, new: NewDataset, folders: Collection[str]) -> str:
    """A name made of the file's, with a number where the plain one is somebody else's."""
    base = name_from(new.filename)
    if not _is_plain(base, "name"):
        base = f"dataset-{base}"[:60]
    names = (base if number == 1 else f"{base}-{number}" for number in count(1))
    return next(
        name
        for name in names
        if name not in folders and datasets.owner_of(connection, name) in (None, new.user)
    )
