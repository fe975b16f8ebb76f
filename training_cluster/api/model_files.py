"""The native API's files of models: a zip, single files, the card."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Response
from starlette.concurrency import iterate_in_threadpool
from starlette.responses import FileResponse, StreamingResponse

from training_cluster.api.attachment import disposition
from training_cluster.api.auth import Caller
from training_cluster.api.held_file import HeldFile
from training_cluster.api.late_routes import LateRouter
from training_cluster.api.models import ModelKey
from training_cluster.api.problems import documented
from training_cluster.api.services import Daemon
from training_cluster.domain.errors import ModelNotFound, NotFound, Pruned

router = LateRouter(tags=["models"])

FileName = Annotated[str, Path(max_length=255, description="One of the model's `files`.")]
_MARKDOWN = "text/markdown; charset=utf-8"
_ERRORS = documented(ModelNotFound, Pruned)


def _binary(description: str, media_type: str) -> dict[str, Any]:
    schema = {"type": "string", "format": "binary"}
    return {"description": description, "content": {media_type: {"schema": schema}}}


@router.get(
    "/models/{key}/download",
    summary="Download a model",
    response_class=StreamingResponse,
    responses={200: _binary("A zip with all files in one folder", "application/zip"), **_ERRORS},
)
async def download_model(key: ModelKey, daemon: Daemon, caller: Caller) -> Response:
    """One zip, made while it is sent: weights as they are, the card with the model's lineage in
    place of the trainer's own. `Content-Length` is given."""
    archive = await daemon.models.archive(key, caller)
    headers = {
        "Content-Length": str(archive.size_bytes),
        "Content-Disposition": disposition(archive.name),
    }
    chunks = iterate_in_threadpool(archive.chunks)
    return StreamingResponse(chunks, media_type="application/zip", headers=headers)


@router.get(
    "/models/{key}/files/{file}",
    summary="Download one file of a model",
    response_class=FileResponse,
    responses={
        200: _binary("The file as the trainer wrote it", "application/octet-stream"),
        206: _binary("The part that `Range` asks for", "application/octet-stream"),
        416: {"description": "The file has no such part"},
        **documented(ModelNotFound, NotFound, Pruned),
    },
)
async def download_file(
    key: ModelKey, file: FileName, daemon: Daemon, caller: Caller
) -> FileResponse:
    """As the trainer wrote it. With `Range` a part of it: a download that broke goes on so."""
    opened = await daemon.models.file(key, file, caller)
    return HeldFile(opened, {"Content-Disposition": disposition(file)})


@router.get(
    "/models/{key}/card",
    summary="Read a model's card",
    response_class=Response,
    responses={200: {"content": {"text/markdown": {"example": "# initial-sft@v2"}}}, **_ERRORS},
)
async def get_card(key: ModelKey, daemon: Daemon, caller: Caller) -> Response:
    """Markdown: what the trainer wrote, and the job, base, dataset, figures and configuration."""
    return Response(await daemon.models.card(key, caller), media_type=_MARKDOWN)
