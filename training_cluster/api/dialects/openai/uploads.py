"""Large files in parts, for OpenAI's clients: announce, add parts, complete or cancel."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import Body, Path, Request, Response

from training_cluster.api.auth import Submitter
from training_cluster.api.dialects.openai import file_views, files, names
from training_cluster.api.dialects.openai.requests import CompleteUpload, CreateUpload
from training_cluster.api.dialects.openai.views import answers
from training_cluster.api.late_routes import LateRouter
from training_cluster.api.multipart import read_form
from training_cluster.api.services import Daemon, answer
from training_cluster.api.strict_json import StrictJsonRoute
from training_cluster.domain.dataset_errors import UploadNotFound
from training_cluster.domain.dialect import native_id, short_id
from training_cluster.domain.errors import StorageFull
from training_cluster.services.incoming import Incoming
from training_cluster.services.part_uploads import PartUpload, PartUploads

router = LateRouter(prefix="/v1/uploads", tags=["openai"])
json_router = LateRouter(prefix="/v1/uploads", route_class=StrictJsonRoute, tags=["openai"])

UploadId = Annotated[str, Path(max_length=64, description="`upload-...`")]
_CREATE: dict[str, Any] = {
    "a file": {
        "value": {
            "bytes": 140213,
            "filename": "support.jsonl",
            "mime_type": "application/jsonl",
            "purpose": "fine-tune",
        }
    }
}
_COMPLETE: dict[str, Any] = {"one part": {"value": {"part_ids": [file_views.PART_OF_UPLOAD["id"]]}}}


@json_router.post(
    "",
    summary="Announce a file that comes in parts",
    responses=answers(file_views.UploadView, file_views.UPLOAD, StorageFull),
)
async def create_upload(
    body: Annotated[CreateUpload, Body(openapi_examples=_CREATE)],
    daemon: Daemon,
    caller: Submitter,
) -> Response:
    """It has a day to come."""
    files.new_dataset(caller.name, body.filename, body.purpose)
    upload = await daemon.parts.announce(caller.name, body.filename, body.purpose, body.bytes)
    return answer(_view(upload, "pending"))


@router.post(
    "/{upload_id}/parts",
    summary="Add a part",
    openapi_extra=file_views.PART_FORM,
    responses=answers(file_views.PartView, file_views.PART_OF_UPLOAD, UploadNotFound, StorageFull),
)
async def add_part(
    upload_id: UploadId, request: Request, daemon: Daemon, caller: Submitter
) -> Response:
    """Parts may come in any order, several at a time."""
    upload = await daemon.parts.get(native_id(names.UPLOAD, upload_id), caller)
    async with read_form(request, _Parts(daemon.parts, upload), file="data") as form:
        assert form.incoming is not None
        part = await daemon.parts.keep(form.incoming)
    return answer(
        {
            "id": short_id(names.PART, part),
            "object": "upload.part",
            "created_at": int(time.time()),
            "upload_id": short_id(names.UPLOAD, upload.id),
        }
    )


@json_router.post(
    "/{upload_id}/complete",
    summary="Make a file of the parts",
    responses=answers(
        file_views.UploadView,
        {**file_views.UPLOAD, "status": "completed", "file": file_views.UPLOADED},
        *(UploadNotFound, StorageFull),
    ),
)
async def complete_upload(
    upload_id: UploadId,
    body: Annotated[CompleteUpload, Body(openapi_examples=_COMPLETE)],
    daemon: Daemon,
    caller: Submitter,
) -> Response:
    """The parts in this order have to be the file that was announced. Asked again, it says the
    same again, for a day."""
    upload = await daemon.parts.announced(native_id(names.UPLOAD, upload_id), caller)
    parts = [native_id(names.PART, part) for part in body.part_ids]
    new = files.new_dataset(upload.user, upload.filename, upload.purpose)
    made = await daemon.parts.complete(upload, parts, new, body.md5)
    return answer({**_view(upload, "completed"), "file": files.view(made, caller)})


@json_router.post(
    "/{upload_id}/cancel",
    summary="Give an upload up",
    responses=answers(
        file_views.UploadView, {**file_views.UPLOAD, "status": "cancelled"}, UploadNotFound
    ),
)
async def cancel_upload(upload_id: UploadId, daemon: Daemon, caller: Submitter) -> Response:
    """What has come of it is thrown away."""
    upload = await daemon.parts.get(native_id(names.UPLOAD, upload_id), caller)
    await daemon.parts.cancel(upload)
    return answer(_view(upload, "cancelled"))


class _Parts:
    """Where the form's file goes: to a part of this upload."""

    def __init__(self, uploads: PartUploads, upload: PartUpload) -> None:
        self._uploads = uploads
        self._upload = upload

    async def open_new(self) -> Incoming:
        return await self._uploads.open_part(self._upload)

    async def abandon(self, incoming: Incoming) -> None:
        await self._uploads.drop(incoming)


def _view(upload: PartUpload, status: str) -> dict[str, Any]:
    return {
        "id": short_id(names.UPLOAD, upload.id),
        "object": "upload",
        "bytes": upload.bytes,
        "created_at": int(upload.created_at),
        "expires_at": int(upload.expires_at),
        "filename": upload.filename,
        "purpose": upload.purpose,
        "status": status,
        "file": None,
    }
