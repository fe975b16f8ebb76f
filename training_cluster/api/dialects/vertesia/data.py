"""The training data of Vertesia's sessions: build it, name it, fetch it, send it."""

from __future__ import annotations

from typing import Annotated

from fastapi import Body, Path, Query, Request, Response
from fastapi.openapi.models import Example

from training_cluster.api.auth import Caller, Submitter
from training_cluster.api.dialects.vertesia import views
from training_cluster.api.dialects.vertesia.requests import DatasetRequest
from training_cluster.api.dialects.vertesia.views import (
    ANYWHERE,
    BuiltView,
    ChosenView,
    UrlView,
    shown,
)
from training_cluster.api.late_routes import LateRouter
from training_cluster.api.own_address import absolute
from training_cluster.api.services import Daemon, Services, answer
from training_cluster.api.strict_json import StrictJsonRoute
from training_cluster.domain.dataset import DatasetVersion
from training_cluster.domain.dataset_errors import DatasetNotFound, DatasetNotReady
from training_cluster.domain.disclosure import may_read, require_readable
from training_cluster.domain.errors import Forbidden, StorageFull
from training_cluster.domain.principal import Principal
from training_cluster.domain.session_errors import SessionNotFound, SessionNotReady
from training_cluster.services.session_trainings import DEFAULT

router = LateRouter(
    prefix="/api/v1/training", route_class=StrictJsonRoute, tags=["vertesia"], responses=ANYWHERE
)

SessionId = Annotated[str, Path(max_length=64)]
_CHOICES: dict[str, Example] = {
    "built": {"summary": "What `build` made last", "value": {"dataset": "default"}},
    "named": {"summary": "A dataset that is here", "value": {"dataset": "support-answers@v2"}},
}


@router.post(
    "/{session_id}/build",
    summary="Make a dataset of a session's runs",
    responses=shown(
        BuiltView, views.BUILT, SessionNotFound, Forbidden, SessionNotReady, StorageFull
    ),
)
async def build_session(
    session_id: SessionId, request: Request, daemon: Daemon, caller: Submitter
) -> Response:
    """An immutable version with a row of every run that completed. It is checked from now on: the
    session is `building` until that is done, and can be started at once."""
    built = await daemon.interactions.trainings.build(session_id, caller)
    content = {
        "dataset": _download(request, daemon, built.dataset, caller),
        "name": built.dataset.label,
        "skipped": built.skipped,
    }
    return answer(content)


@router.post(
    "/{session_id}/dataset",
    summary="Name the dataset to train on",
    responses=shown(
        ChosenView, views.CHOSEN, SessionNotFound, Forbidden, SessionNotReady, DatasetNotFound
    ),
)
async def set_dataset(
    session_id: SessionId,
    body: Annotated[DatasetRequest, Body(openapi_examples=_CHOICES)],
    request: Request,
    daemon: Daemon,
    caller: Submitter,
) -> Response:
    """`default` is what was built last; else any dataset of this daemon by id, name or
    `name@version`. It can be fetched where its rows are for the caller."""
    chosen = await daemon.interactions.trainings.choose(session_id, body.dataset or DEFAULT, caller)
    found = await daemon.interactions.trainings.dataset(chosen)
    readable = found is not None and may_read(found, caller)
    address = _download(request, daemon, found, caller) if found and readable else chosen.dataset
    return answer({"dataset": address, "name": chosen.dataset})


@router.get(
    "/{session_id}/url",
    summary="Where a session's dataset can be fetched",
    responses=shown(
        UrlView, views.DOWNLOAD, SessionNotFound, Forbidden, SessionNotReady, DatasetNotReady
    ),
)
async def get_data_url(
    session_id: SessionId, request: Request, daemon: Daemon, caller: Caller
) -> Response:
    """An address that needs no token and is good for `limits.signed_url_seconds`: whoever has it
    can read the dataset."""
    session = await daemon.interactions.sessions.owned(session_id, caller)
    found = await daemon.interactions.trainings.dataset(session)
    if found is None:
        where = f"{session.dataset} lies in a folder of the machine" if session.dataset else None
        raise SessionNotReady(
            where or "the session has no dataset yet",
            hint="POST /api/v1/training/{id}/build makes one of its runs",
        )
    require_readable(found, caller, f"the content of dataset {found.label}")
    return answer({"url": _download(request, daemon, found, caller)})


@router.get(
    "/{session_id}/upload-url",
    summary="Where a session's dataset can be sent",
    responses=shown(
        UrlView, views.UPLOAD, SessionNotFound, Forbidden, SessionNotReady, StorageFull
    ),
)
async def get_data_upload_url(
    session_id: SessionId,
    request: Request,
    daemon: Daemon,
    caller: Submitter,
    resumable: Annotated[
        bool, Query(description="The address is good for as long as an unfinished upload is kept.")
    ] = False,
) -> Response:
    """An address that takes the file by PUT and needs no token, whole or in parts with
    `Content-Range`. When all has come it is a dataset, and the session's."""
    upload = await daemon.interactions.trainings.upload(session_id, caller)
    seconds = daemon.uploads.kept_seconds if resumable else None
    path = daemon.signed_urls.sign("PUT", f"/uploads/{upload.id}", upload.user, caller, seconds)
    return answer({"url": absolute(request, path)}, headers={"Cache-Control": "no-store"})


def _download(request: Request, daemon: Services, found: DatasetVersion, by: Principal) -> str:
    path = f"/datasets/{found.id}/content"
    user = found.user if by.owns(found.user) else by.name  # whose rows they are while it is public
    return absolute(request, daemon.signed_urls.sign("GET", path, user, by))
