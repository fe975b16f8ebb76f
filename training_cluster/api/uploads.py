"""Uploads that may break: an address, parts with Content-Range, and where it stands.

The way resumable uploads to object stores work: `308` and `Range` say what has come.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import Body, Header, Path, Query, Request, Response
from pydantic import Field, StringConstraints

from training_cluster.api.auth import Submitter
from training_cluster.api.dataset_views import EXAMPLE, DatasetFields, DatasetView, view
from training_cluster.api.examples import STARTED_AT, shown
from training_cluster.api.late_routes import LateRouter
from training_cluster.api.own_address import absolute
from training_cluster.api.problems import documented
from training_cluster.api.services import Daemon, answer
from training_cluster.api.shape import Shape
from training_cluster.api.strict_json import StrictJsonRoute
from training_cluster.domain.dataset_errors import NameTaken, UploadNotFound, WrongOffset
from training_cluster.domain.errors import FieldProblem, InvalidRequest, StorageFull, TooMany
from training_cluster.domain.principal import Principal
from training_cluster.domain.upload import WHOLE, Part, Upload
from training_cluster.services.uploads import Uploads

json_router = LateRouter(route_class=StrictJsonRoute, tags=["datasets"])
router = LateRouter(tags=["datasets"])

_RANGE = re.compile(r"bytes (?:(\d{1,18})-(\d{1,18})|\*)/(\d{1,18}|\*)")
_EXPECTED = "bytes <first>-<last>/<total>, or bytes */<total> to ask where it stands"
_INCOMPLETE = 308

UploadId = Annotated[str, Path(min_length=1, max_length=64)]
Key = Annotated[
    str | None,
    Query(max_length=128, description="Of the upload's address: with it no token is needed."),
]
Filename = Annotated[str, StringConstraints(max_length=256, pattern=r"^[^\x00-\x1f\x7f]*$")]


class UploadRequest(DatasetFields):
    """A file that is about to come, and what it is to become."""

    filename: Filename = ""
    size: int | None = Field(None, ge=0, lt=2**60, description="In bytes, if it is known.")


class UploadView(Shape):
    """An upload. `received` bytes are there: the next part begins with byte number `received`."""

    upload_id: str
    user: str
    filename: str
    received: int
    size: int | None
    status: str
    created_at: float
    url: str | None = None


class UploadPage(Shape):
    """Uploads, newest first."""

    uploads: list[UploadView]


_ID = EXAMPLE["dataset_id"]
_UPLOAD: dict[str, Any] = {
    "upload_id": _ID,
    "user": "alice",
    "filename": "support.jsonl",
    "received": 8388608,
    "size": 1073741824,
    "status": "receiving",
    "created_at": STARTED_AT,
    "url": None,
}
_ISSUED = {
    **_UPLOAD,
    "received": 0,
    "url": f"http://gpubox.lab.example:23478/uploads/{_ID}?key=<32 secret characters>",
}
_CREATED = {"model": UploadView, "content": {"application/json": {"example": _ISSUED}}}
_REQUESTS: dict[str, Any] = {
    "a gigabyte": {"value": {"filename": "support.jsonl", "size": 1073741824, "name": "support"}}
}
_PART_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "the upload was whole before",
        "model": DatasetView,
        "content": {"application/json": {"example": EXAMPLE}},
    },
    201: {
        "description": "that was the last part: the dataset exists",
        "model": DatasetView,
        "content": {"application/json": {"example": EXAMPLE}},
    },
    308: {
        "description": "more is to come; `Range` says what is there",
        "model": UploadView,
        "headers": {"Range": {"schema": {"type": "string"}, "description": "bytes=0-<last>"}},
        "content": {"application/json": {"example": _UPLOAD}},
    },
    **documented(UploadNotFound, WrongOffset, StorageFull),
}
_BODY = {
    "requestBody": {
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    }
}


@json_router.post(
    "/uploads",
    status_code=201,
    summary="Begin an upload that may break",
    responses={201: _CREATED, **documented(NameTaken, TooMany, StorageFull)},
)
async def create_upload(
    body: Annotated[UploadRequest, Body(openapi_examples=_REQUESTS)],
    request: Request,
    daemon: Daemon,
    caller: Submitter,
) -> Response:
    """The address in this answer takes the file by PUT, in one piece or in parts. Whoever knows
    it may send them, so it is told this once; it opens nothing else."""
    new = body.to_new(caller.name, body.filename)
    issued = await daemon.uploads.create(new, caller, body.size)
    content = {**_view(issued.upload), "url": absolute(request, issued.path)}
    headers = {"Location": issued.path, "Cache-Control": "no-store"}
    return answer(content, 201, headers)


@router.get(
    "/uploads",
    summary="List uploads that are under way",
    responses=shown(UploadPage, {"uploads": [_UPLOAD]}),
)
async def list_uploads(
    daemon: Daemon,
    caller: Submitter,
    limit: Annotated[int, Query(ge=1, le=1000)] = 256,
) -> Response:
    """One's own, for admins everybody's, newest first. What has become a dataset is not listed."""
    user = None if caller.is_admin else caller.name
    found = await daemon.uploads.unfinished(user, limit)
    return answer({"uploads": [_view(each) for each in found]})


@router.put(
    "/uploads/{upload_id}",
    summary="Send a file, or a part of it",
    openapi_extra=_BODY,
    responses=_PART_ANSWERS,
)
async def put_part(
    upload_id: UploadId,
    request: Request,
    daemon: Daemon,
    caller: Submitter,
    key: Key = None,
    content_range: Annotated[
        str | None, Header(max_length=128, description="Left out: the body is the whole file.")
    ] = None,
) -> Response:
    """`Content-Range: bytes 0-8388607/1073741824` sends a part, `bytes */1073741824` without a body
    asks where it stands. Bytes that have come before are passed over, so a part whose answer was
    lost can be sent again."""
    upload = await _own(daemon.uploads, upload_id, caller)
    part = _part(content_range)
    if part is not None and not upload.done:
        was, upload = upload, await daemon.uploads.receive(upload_id, part, request.stream())
        if upload.done:
            made = await daemon.uploads.dataset(was.id)
            return answer(view(made, caller), 201)
    if upload.done:
        return answer(view(await daemon.uploads.dataset(upload_id), caller))
    return answer(_view(upload), _INCOMPLETE, _standing(upload))


@router.head(
    "/uploads/{upload_id}",
    summary="Where an upload stands",
    response_class=Response,
    responses={200: {"description": "Upload-Offset and Upload-Length, in bytes"}},
)
async def head_upload(
    upload_id: UploadId, daemon: Daemon, caller: Submitter, key: Key = None
) -> Response:
    """The same as GET, in headers."""
    upload = await _own(daemon.uploads, upload_id, caller)
    return Response(headers={**_standing(upload), "Cache-Control": "no-store"})


@router.get(
    "/uploads/{upload_id}",
    summary="Where an upload stands, in JSON",
    responses=shown(UploadView, _UPLOAD, UploadNotFound),
)
async def get_upload(
    upload_id: UploadId, daemon: Daemon, caller: Submitter, key: Key = None
) -> Response:
    """`status` is `receiving`, or `done` once it has become the dataset with the same id."""
    return answer(_view(await _own(daemon.uploads, upload_id, caller)))


@router.delete(
    "/uploads/{upload_id}",
    summary="Give an upload up",
    responses=shown(UploadView, _UPLOAD, UploadNotFound),
)
async def delete_upload(
    upload_id: UploadId, daemon: Daemon, caller: Submitter, key: Key = None
) -> Response:
    """What has come is removed. A dataset it has become stays."""
    upload = await _own(daemon.uploads, upload_id, caller)
    await daemon.uploads.cancel(upload_id)
    return answer(_view(upload))


async def _own(uploads: Uploads, upload_id: str, caller: Principal) -> Upload:
    """Uploads of others do not exist. Raises UploadNotFound."""
    upload = await uploads.get(upload_id)
    if not caller.owns(upload.user):
        raise UploadNotFound(f"there is no upload {upload_id[:80]!r}", hint="POST /uploads")
    return upload


def _part(said: str | None) -> Part | None:
    """What a request brings; None when it only asks. Raises InvalidRequest."""
    if said is None:
        return WHOLE
    found = _RANGE.fullmatch(said.strip())
    if found is None:
        raise _odd(said)
    first, last, total = found.groups()
    size = None if total == "*" else int(total)
    if first is None:
        return None
    length = int(last) - int(first) + 1
    if length < 1 or (size is not None and int(last) >= size):
        raise _odd(said)
    return Part(int(first), length, size)


def _odd(said: str) -> InvalidRequest:
    message = f"Content-Range {said[:64]!r} is none"
    return InvalidRequest(message, problems=(FieldProblem("Content-Range", message, _EXPECTED),))


def _standing(upload: Upload) -> dict[str, str]:
    headers = {"Upload-Offset": str(upload.received_bytes)}
    if upload.total_bytes is not None:
        headers["Upload-Length"] = str(upload.total_bytes)
    if upload.received_bytes:
        headers["Range"] = f"bytes=0-{upload.received_bytes - 1}"
    return headers


def _view(upload: Upload) -> dict[str, Any]:
    return {
        "upload_id": upload.id,
        "user": upload.user,
        "filename": upload.asked.filename,
        "received": upload.received_bytes,
        "size": upload.total_bytes,
        "status": "done" if upload.done else "receiving",
        "created_at": upload.created_at,
        "url": None,
    }
