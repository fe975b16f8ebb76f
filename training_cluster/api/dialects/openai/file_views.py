"""Files and uploads of the OpenAI dialect, as OpenAPI shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from training_cluster.api.shape import Shape
from training_cluster.domain.dataset import DatasetState

STATUSES: Mapping[DatasetState, str] = {
    DatasetState.CHECKING: "uploaded",
    DatasetState.READY: "processed",
    DatasetState.INVALID: "error",
}


class FileView(Shape):
    """A file. `bytes` is its size; times are Unix seconds; `status_details` says why it cannot be
    used."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    status: Literal["uploaded", "processed", "error"]
    status_details: str | None


class FileList(Shape):
    """Files; `after` goes on behind the last."""

    object: Literal["list"]
    data: list[FileView]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedView(Shape):
    """A file that is gone."""

    id: str
    object: Literal["file"]
    deleted: bool


class UploadView(Shape):
    """A file that comes in parts; `file` once it is complete."""

    id: str
    object: Literal["upload"]
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: Literal["pending", "completed", "cancelled"]
    file: FileView | None


class PartView(Shape):
    """A part that has come."""

    id: str
    object: Literal["upload.part"]
    created_at: int
    upload_id: str


FILE: dict[str, Any] = {
    "id": "file-0199a0b3e1d27b0c8a1d6c0f2b4e7a95",
    "object": "file",
    "bytes": 140213,
    "created_at": 1795228100,
    "expires_at": None,
    "filename": "support.jsonl",
    "purpose": "fine-tune",
    "status": "processed",
    "status_details": None,
}
UPLOADED: dict[str, Any] = {**FILE, "status": "uploaded"}
DELETED: dict[str, Any] = {"id": FILE["id"], "object": "file", "deleted": True}
UPLOAD: dict[str, Any] = {
    "id": "upload-0199a0b3e1d27b0c8a1d6c0f2b4e7a96",
    "object": "upload",
    "bytes": 140213,
    "created_at": 1795228000,
    "expires_at": 1795314400,
    "filename": "support.jsonl",
    "purpose": "fine-tune",
    "status": "pending",
    "file": None,
}
PART_OF_UPLOAD: dict[str, Any] = {
    "id": "part-0199a0b3e1d27b0c8a1d6c0f2b4e7a97",
    "object": "upload.part",
    "created_at": 1795228050,
    "upload_id": UPLOAD["id"],
}
CONTENT: dict[str, Any] = {
    "description": "the bytes that came; Range is honoured",
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
}
PART: dict[str, Any] = {**CONTENT, "description": "a part of it"}


def page(data: list[dict[str, Any]], *, more: bool) -> dict[str, Any]:
    """A page of files."""
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": more,
    }


FILES: dict[str, Any] = page([FILE], more=False)


def form(file: str, **fields: dict[str, Any]) -> dict[str, Any]:
    """OpenAPI's words for a form with one file."""
    properties = {file: {"type": "string", "format": "binary"}, **fields}
    schema = {"type": "object", "properties": properties, "required": [file, *fields]}
    content = {"multipart/form-data": {"schema": schema}}
    return {"requestBody": {"required": True, "content": content}}


FORM = form("file", purpose={"type": "string", "enum": ["fine-tune"]})
PART_FORM = form("data")
