"""Datasets in SQLite: insert, find, page, the result of the check, delete; jobs that wait."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from dataclasses import asdict
from typing import Any

from training_cluster.domain.dataset import (
    NAME,
    SHA256,
    DatasetOrigin,
    DatasetState,
    DatasetVersion,
    HubSource,
    NewDataset,
    Split,
)
from training_cluster.domain.dataset_errors import DatasetNotFound
from training_cluster.domain.dialect import DialectRequest
from training_cluster.domain.event import EventType
from training_cluster.domain.ids import is_job_id
from training_cluster.store import events

_INSERT = """
INSERT INTO datasets (id, name, version, user, state, origin, filename, bytes, asked, created_at)
VALUES (?, ?, ?, ?, 'checking', ?, ?, ?, ?, ?)"""
_BY_ID = "SELECT * FROM datasets WHERE id = ? AND deleted_at IS NULL"
_EVER = "SELECT * FROM datasets WHERE id = ?"
_SHA256 = "SELECT sha256 FROM datasets WHERE id = ?"
_BY_NUMBER = "SELECT * FROM datasets WHERE number = ? AND deleted_at IS NULL"
_BY_VERSION = "SELECT * FROM datasets WHERE name = ? AND version = ? AND deleted_at IS NULL"
_BY_SHA256 = """
SELECT * FROM datasets WHERE sha256 = ? AND deleted_at IS NULL ORDER BY number DESC LIMIT 1"""
_NEWEST = """
SELECT * FROM datasets WHERE name = ? AND deleted_at IS NULL ORDER BY number DESC LIMIT 1"""
_VERSIONS = "SELECT version FROM datasets WHERE name = ?"
_NAMES = "SELECT DISTINCT name FROM datasets WHERE deleted_at IS NULL"
_UNUSED = """
SELECT * FROM datasets AS d WHERE deleted_at IS NULL AND state <> 'checking'
  AND created_at <= :before AND (:user IS NULL OR user = :user)
  AND NOT EXISTS (SELECT 1 FROM jobs INDEXED BY jobs_of_datasets WHERE dataset_id = d.id
    AND state NOT IN ('completed', 'failed', 'cancelled'))
  AND NOT EXISTS (SELECT 1 FROM models
    WHERE dataset = d.name || '@' || d.version AND deleted_at IS NULL)
ORDER BY number"""
_OWNER = "SELECT user FROM datasets WHERE name = ? ORDER BY number DESC LIMIT 1"
_PAGE = """
SELECT * FROM datasets WHERE number < ? AND deleted_at IS NULL {filters}
ORDER BY number DESC LIMIT ?"""
_TO_CHECK = """
SELECT * FROM datasets INDEXED BY datasets_to_check
WHERE state = 'checking' AND deleted_at IS NULL ORDER BY number LIMIT ?"""
_READY = """
UPDATE datasets SET state = 'ready', checked_at = ?, bytes = ?, sha256 = ?, format = ?,
  columns = ?, rows = ?, validation_rows = ?, original = ?, train_file = ?, validation_file = ?,
  report = ?
WHERE id = ? AND state = 'checking' AND deleted_at IS NULL"""
_INVALID = """
UPDATE datasets SET state = 'invalid', checked_at = ?, bytes = ?, sha256 = ?, original = ?,
  report = ?, error = ?
WHERE id = ? AND state = 'checking' AND deleted_at IS NULL"""
_SET_PUBLIC = "UPDATE datasets SET asked = json_set(asked, '$.is_public', json(?)) WHERE id = ?"
_DELETE = """
UPDATE datasets SET deleted_at = ?, state = 'invalid', error = coalesce(error, 'deleted'),
  checked_at = coalesce(checked_at, ?) WHERE id = ? AND deleted_at IS NULL"""
_FILES = """
SELECT id, original, train_file, validation_file FROM datasets
WHERE deleted_at IS NULL AND original IS NOT NULL"""
_DELETED = """
SELECT original, train_file, validation_file FROM datasets
WHERE deleted_at IS NOT NULL AND original IS NOT NULL"""
_LIVE = "SELECT id FROM datasets WHERE deleted_at IS NULL AND state = 'checking'"
_USED_BY = """
SELECT 'job ' || number AS who FROM jobs INDEXED BY jobs_of_datasets
WHERE dataset_id = :id AND state NOT IN ('completed', 'failed', 'cancelled')
UNION ALL
SELECT 'model ' || name || '@' || version FROM models
WHERE dataset = :label AND deleted_at IS NULL LIMIT 1"""


def insert(
    connection: sqlite3.Connection,
    dataset_id: str,
    new: NewDataset,
    named: tuple[str, str],
    size_bytes: int,
    now: float,
) -> None:
    """Add a version that is to be checked under a name and version that are free."""
    name, version = named
    values = (dataset_id, name, version, new.user, new.origin.value, new.filename, size_bytes)
    connection.execute(_INSERT, (*values, asked_to_json(new), now))
    facts = {"dataset": f"{name}@{version}", "dataset_id": dataset_id, "by": new.user}
    told = {**facts, "origin": new.origin.value}
    events.append(connection, now, EventType.DATASET_CREATED, data=told)


def find(connection: sqlite3.Connection, key: str) -> DatasetVersion:
    """A version by id, number, `name@version`, the newest of a name or with the SHA-256 of the file
    that came. Raises DatasetNotFound."""
    row = _find(connection, key)
    if row is None:
        raise DatasetNotFound(f"there is no dataset {key[:140]!r}", hint="GET /datasets lists them")
    return _version(row)


def _find(connection: sqlite3.Connection, key: str) -> sqlite3.Row | None:
    name, at, version = key.partition("@")
    query, values = _NEWEST, (key,)
    if SHA256.fullmatch(key):  # Lamini's clients call datasets so, by hashes of their own
        found: sqlite3.Row | None = connection.execute(_BY_SHA256, values).fetchone()
        return found or connection.execute(_NEWEST, values).fetchone()
    if at:
        query, values = _BY_VERSION, (name, version)  # type: ignore[assignment]
    elif is_job_id(key.lower()):
        query, values = _BY_ID, (key.lower(),)
    elif key.isascii() and key.isdigit() and len(key) < 19:
        query = _BY_NUMBER
    row: sqlite3.Row | None = None
    if NAME.fullmatch(name):
        row = connection.execute(query, values).fetchone()
    return row


def ever(connection: sqlite3.Connection, dataset_id: str) -> DatasetVersion | None:
    """The version with an id, deleted or not."""
    row = connection.execute(_EVER, (dataset_id,)).fetchone()
    return None if row is None else _version(row)


def sha256_of(connection: sqlite3.Connection, dataset_id: str) -> str | None:
    """The hash of a version's content, deleted or not; None while it is not known."""
    row = connection.execute(_SHA256, (dataset_id,)).fetchone()
    return None if row is None else row["sha256"]


def versions_of(connection: sqlite3.Connection, name: str) -> list[str]:
    """Every version a name ever had."""
    return [row["version"] for row in connection.execute(_VERSIONS, (name,))]


def names(connection: sqlite3.Connection) -> list[str]:
    """The names that have a version now."""
    return [row["name"] for row in connection.execute(_NAMES)]


def owner_of(connection: sqlite3.Connection, name: str) -> str | None:
    """Whose a name is; None for one that was never used."""
    row = connection.execute(_OWNER, (name,)).fetchone()
    return None if row is None else row["user"]


def page(
    connection: sqlite3.Connection,
    *,
    before: int,
    limit: int,
    name: str | None = None,
    user: str | None = None,
    purpose: str | None = None,
) -> list[DatasetVersion]:
    """Versions with a number below `before`, newest first."""
    filters, values = "", []
    for column, value in (("name", name), ("user", user), ("asked ->> 'purpose'", purpose)):
        if value is not None:
            filters += f" AND {column} = ?"
            values.append(value)
    rows = connection.execute(_PAGE.format(filters=filters), (before, *values, limit))
    return [_version(row) for row in rows]


def to_check(connection: sqlite3.Connection, limit: int) -> list[DatasetVersion]:
    """The oldest versions whose content nobody has looked at."""
    return [_version(row) for row in connection.execute(_TO_CHECK, (limit,))]


def mark_ready(connection: sqlite3.Connection, found: DatasetVersion, now: float) -> bool:
    """Store what the check found, if the version still waits for that."""
    values = (
        *(now, found.bytes, found.sha256, found.format, json.dumps(dict(found.columns))),
        *(found.rows, found.validation_rows, found.original, found.train_file),
        *(found.validation_file, json.dumps(found.report), found.id),
    )
    if connection.execute(_READY, values).rowcount != 1:
        return False
    facts = {"dataset": found.label, "dataset_id": found.id, "rows": found.rows}
    events.append(connection, now, EventType.DATASET_READY, data=facts)
    return True


def mark_invalid(connection: sqlite3.Connection, found: DatasetVersion, now: float) -> bool:
    """Store why the version cannot be used, if it still waits for that."""
    values = (now, found.bytes, found.sha256, found.original, json.dumps(found.report))
    if connection.execute(_INVALID, (*values, found.error, found.id)).rowcount != 1:
        return False
    facts = {"dataset": found.label, "dataset_id": found.id}
    events.append(connection, now, EventType.DATASET_INVALID, data=facts)
    return True


def set_public(connection: sqlite3.Connection, found: DatasetVersion, *, is_public: bool) -> None:
    """Let everybody read the rows of a version, or not."""
    connection.execute(_SET_PUBLIC, (json.dumps(is_public), found.id))


def delete(connection: sqlite3.Connection, gone: DatasetVersion, by: str, now: float) -> bool:
    """Let go of a version; its name and version are never given again."""
    if connection.execute(_DELETE, (now, now, gone.id)).rowcount != 1:
        return False
    facts = {"dataset": gone.label, "dataset_id": gone.id, "by": by, "bytes": gone.bytes}
    events.append(connection, now, EventType.DATASET_DELETED, data=facts)
    return True


def used_by(connection: sqlite3.Connection, found: DatasetVersion) -> str | None:
    """A job that trains on a version or will, or a model that was made from it: `job 7`."""
    values = {"id": found.id, "label": found.label}
    row = connection.execute(_USED_BY, values).fetchone()
    return None if row is None else row["who"]


def unused(connection: sqlite3.Connection, before: float, user: str | None) -> list[DatasetVersion]:
    """Checked versions that came at `before` or earlier (Unix seconds), to which no job that goes
    on and no model refers."""
    rows = connection.execute(_UNUSED, {"before": before, "user": user})
    return [_version(row) for row in rows]


def files_in_use(connection: sqlite3.Connection, but: Collection[str] = ()) -> set[str]:
    """The names of all files that versions refer to; `but` are ids that do not count."""
    rows = connection.execute(_FILES).fetchall()
    return {name for row in rows if row["id"] not in but for name in row[1:] if name}


def files_let_go(connection: sqlite3.Connection) -> set[str]:
    """The names of files that only deleted versions refer to."""
    rows = connection.execute(_DELETED).fetchall()
    return {name for row in rows for name in row if name} - files_in_use(connection)


def in_check(connection: sqlite3.Connection) -> set[str]:
    """The ids of versions whose file has not been taken over yet."""
    return {row["id"] for row in connection.execute(_LIVE)}


def asked_to_json(new: NewDataset) -> str:
    """The form in which the store keeps what was asked for."""
    return json.dumps(asdict(new), separators=(",", ":"))


def asked_from_json(text: str) -> NewDataset:
    """Read what was asked for; keys of other versions of this program are ignored."""
    raw: dict[str, Any] = json.loads(text)
    kept = {key: raw[key] for key in raw.keys() & NewDataset.__dataclass_fields__.keys()}
    if isinstance(kept.get("validation"), dict):
        kept["validation"] = Split(**kept["validation"])
    if kept.get("hub") is not None:
        kept["hub"] = HubSource(**kept["hub"])
    if kept.get("request") is not None:
        kept["request"] = DialectRequest(**kept["request"])
    kept["origin"] = DatasetOrigin(kept.get("origin", "upload"))
    return NewDataset(**kept)


def _version(row: sqlite3.Row) -> DatasetVersion:
    state = DatasetState(row["state"])
    return DatasetVersion(
        id=row["id"],
        number=row["number"],
        name=row["name"],
        version=row["version"],
        user=row["user"],
        state=state,
        origin=DatasetOrigin(row["origin"]),
        filename=row["filename"],
        bytes=row["bytes"],
        created_at=row["created_at"],
        asked=asked_from_json(row["asked"]),
        ready_at=row["checked_at"] if state is DatasetState.READY else None,
        deleted_at=row["deleted_at"],
        sha256=row["sha256"],
        format=row["format"],
        columns=json.loads(row["columns"] or "{}"),
        rows=row["rows"],
        validation_rows=row["validation_rows"],
        original=row["original"],
        train_file=row["train_file"],
        validation_file=row["validation_file"],
        report=json.loads(row["report"] or "null"),
        error=row["error"],
    )
