"""Lamini's route that tells which of its API is here."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header, Response

from training_cluster import __version__
from training_cluster.api.auth import Caller
from training_cluster.api.dialects.lamini import documents, examples, views
from training_cluster.api.late_routes import LateRouter
from training_cluster.api.services import answer

router = LateRouter(prefix="/v1", tags=["lamini"])

TESTED_CLIENT = "3.4.3"
ENDPOINTS = {
    "train": "/v1/train",
    "train_jobs": "/v1/train/jobs",
    "upload_base_path": "/v1/get-upload-base-path",
    "local_data": "/v1/local-data",
    "data": "/v1/data",
    "existing_data": "/v1/existing-data",
    "downloaded_models": "/v1alpha/downloaded_models",
    "version": "/v1/version",
}


@router.get(
    "/version",
    summary="What of Lamini's API is here",
    responses=documents.answers(views.Version, examples.VERSION),
)
async def version(
    _: Caller,
    lamini_version: Annotated[str | None, Header(max_length=64, include_in_schema=False)] = None,
) -> Response:
    """`client` is the version that asks, or the one this daemon was tested with."""
    endpoints = [{"name": name, "path": path} for name, path in ENDPOINTS.items()]
    client = lamini_version or TESTED_CLIENT
    return answer({"api": endpoints, "server": __version__, "client": client})
