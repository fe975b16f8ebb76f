"""Uploads in SQLite: what they will be; how much has come is the size of their file."""

from __future__ import annotations

import sqlite3

from training_cluster.domain.dataset_errors import UploadNotFound
from training_cluster.domain.upload import Upload
from training_cluster.store.datasets import asked_from_json, asked_to_json

_INSERT = """
INSERT INTO uploads (id, user, total_bytes, asked, created_at, key_sha256)
VALUES (?, ?, ?, ?, ?, ?)"""
_FIND = "SELECT * FROM uploads WHERE id = ?"
_KEY = "SELECT user, key_sha256 FROM uploads WHERE id = ?"
_TOTAL = "UPDATE uploads SET total_bytes = ? WHERE id = ?"
_DONE = "UPDATE uploads SET done_at = ? WHERE id = ?"
_DELETE = "DELETE FROM uploads WHERE id = ?"
_UNDER_WAY = "SELECT id FROM uploads WHERE done_at IS NULL"
_LISTED = """
SELECT * FROM uploads WHERE done_at IS NULL AND (:user IS NULL OR user = :user)
ORDER BY created_at DESC LIMIT :limit"""
_OLD = "SELECT id FROM uploads WHERE created_at < ?"
_OF_USER = "SELECT count(*) FROM uploads WHERE user = ? AND done_at IS NULL"


def insert(connection: sqlite3.Connection, upload: Upload, key_sha256: bytes) -> None:
    """Add an upload; `key_sha256` is of what its address holds."""
    values = (upload.id, upload.user, upload.total_bytes, asked_to_json(upload.asked))
    connection.execute(_INSERT, (*values, upload.created_at, key_sha256))


def find(connection: sqlite3.Connection, upload_id: str) -> Upload:
    """An upload, done or not. Raises UploadNotFound."""
    row = connection.execute(_FIND, (upload_id,)).fetchone()
    if row is None:
        raise UploadNotFound(f"there is no upload {upload_id[:80]!r}", hint="POST /uploads")
    return _upload(row)


def unfinished(connection: sqlite3.Connection, user: str | None, limit: int) -> list[Upload]:
    """Uploads under way, of one user or of all, newest first."""
    rows = connection.execute(_LISTED, {"user": user, "limit": limit})
    return [_upload(row) for row in rows]


def _upload(row: sqlite3.Row) -> Upload:
    return Upload(
        id=row["id"],
        user=row["user"],
        asked=asked_from_json(row["asked"]),
        created_at=row["created_at"],
        total_bytes=row["total_bytes"],
        done=row["done_at"] is not None,
    )


def key_of(connection: sqlite3.Connection, upload_id: str) -> tuple[str, bytes] | None:
    """Whose an upload is, and the hash of its key."""
    row = connection.execute(_KEY, (upload_id,)).fetchone()
    return None if row is None else (row["user"], bytes(row["key_sha256"]))


def set_total(connection: sqlite3.Connection, upload_id: str, total_bytes: int) -> None:
    """Say how many bytes there will be."""
    connection.execute(_TOTAL, (total_bytes, upload_id))


def mark_done(connection: sqlite3.Connection, upload_id: str, now: float) -> None:
    """It has become a dataset; its address still answers."""
    connection.execute(_DONE, (now, upload_id))


def delete(connection: sqlite3.Connection, upload_id: str) -> bool:
    """Forget an upload."""
    return connection.execute(_DELETE, (upload_id,)).rowcount == 1


def under_way(connection: sqlite3.Connection) -> set[str]:
    """The ids of uploads that have not become datasets."""
    return {row["id"] for row in connection.execute(_UNDER_WAY)}


def begun_before(connection: sqlite3.Connection, moment: float) -> list[str]:
    """The ids of uploads begun before a moment (Unix seconds), done or not."""
    return [row["id"] for row in connection.execute(_OLD, (moment,))]


def count_of(connection: sqlite3.Connection, user: str) -> int:
    """How many uploads of a user are under way."""
    return int(connection.execute(_OF_USER, (user,)).fetchone()[0])
