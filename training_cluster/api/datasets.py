"""The native API's datasets: hand in, list, look, preview, download, delete."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Body, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from training_cluster.api.attachment import disposition
from training_cluster.api.auth import Caller, Submitter
from training_cluster.api.dataset_views import (
    EXAMPLE,
    NEW_EXAMPLE,
    DatasetChange,
    DatasetFields,
    DatasetPage,
    DatasetView,
    ImportRequest,
    PreviewView,
    view,
)
from training_cluster.api.examples import shown
from training_cluster.api.held_file import HeldFile
from training_cluster.api.late_routes import LateRouter
from training_cluster.api.multipart import Form, read_form
from training_cluster.api.problems import documented
from training_cluster.api.render import decode_cursor, encode_cursor
from training_cluster.api.services import Daemon, answer
from training_cluster.api.strict_json import StrictJsonRoute
from training_cluster.domain.dataset import HubSource
from training_cluster.domain.dataset_errors import (
    DatasetInUse,
    DatasetNotFound,
    DatasetNotReady,
    InspectorUnavailable,
    NameTaken,
)
from training_cluster.domain.disclosure import require_readable
from training_cluster.domain.errors import StorageFull
from training_cluster.store.jobs import LAST

router = LateRouter(tags=["datasets"])
json_router = LateRouter(route_class=StrictJsonRoute, tags=["datasets"])

Key = Annotated[
    str,
    Path(min_length=1, max_length=140, description="Id, number, `name@version`, or a name."),
]
_CREATED = {"model": DatasetView, "content": {"application/json": {"example": NEW_EXAMPLE}}}


def _form_schema() -> dict[str, Any]:
    schema = DatasetFields.model_json_schema()
    for field in schema["properties"].values():
        field.pop("default", None)
    schema["properties"]["columns"] = {
        "type": "string",
        "contentMediaType": "application/json",
        "description": "Role to column, as a JSON object.",
    }
    schema["properties"]["file"] = {"type": "string", "format": "binary"}
    schema["required"] = ["file"]
    return schema


_BODY = {
    "requestBody": {
        "required": True,
        "content": {"multipart/form-data": {"schema": _form_schema()}},
    }
}


@router.post(
    "/datasets",
    status_code=201,
    summary="Hand in a dataset",
    openapi_extra=_BODY,
    responses={201: _CREATED, **documented(NameTaken, StorageFull)},
)
async def create_dataset(request: Request, daemon: Daemon, caller: Submitter) -> Response:
    """A form with a `file`: jsonl, json, csv or parquet. The answer comes as soon as it is durable;
    it is `checking` then and becomes `ready` or `invalid`. Jobs may name it at once."""
    async with read_form(request, daemon.datasets) as form:
        assert form.incoming is not None
        new = _fields(form).to_new(caller.name, form.filename)
        added = await daemon.datasets.adopt(form.incoming, new)
    return answer(view(added, caller), 201)


_REQUESTS: dict[str, Any] = {
    "a file on the daemon's machine": {"value": {"path": "/data/support.jsonl"}},
    "from the hub": {"value": {"hub": {"dataset": "owner/name", "split": "train"}}},
    "rows": {"value": {"name": "tiny", "rows": [{"prompt": "Hi", "completion": "Hello"}]}},
}


@json_router.post(
    "/datasets/import",
    status_code=201,
    summary="Take a dataset from where it lies",
    responses={201: _CREATED, **documented(NameTaken, StorageFull)},
)
async def import_dataset(
    body: Annotated[ImportRequest, Body(openapi_examples=_REQUESTS)],
    daemon: Daemon,
    caller: Submitter,
) -> Response:
    """A file below a dataset root, files on the hub, or rows. The check fetches it first."""
    new = body.to_new(caller.name)
    if body.path is not None:
        added = await daemon.datasets.add_path(body.path, new)
    elif body.hub is not None:
        source = HubSource(**body.hub.model_dump())
        added = await daemon.datasets.add_hub(source, new, body.private_hf_token)
    else:
        added = await daemon.datasets.add_rows(body.rows or [], new)
    return answer(view(added, caller), 201)


def _fields(form: Form) -> DatasetFields:
    try:
        return DatasetFields.model_validate(form.fields)
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from None


@router.get(
    "/datasets",
    summary="List datasets, newest first",
    responses=shown(DatasetPage, {"datasets": [EXAMPLE], "next_cursor": None}),
)
async def list_datasets(
    daemon: Daemon,
    caller: Caller,
    name: Annotated[str | None, Query(max_length=64, description="Versions of this.")] = None,
    user: Annotated[str | None, Query(max_length=128, description="Only this user's.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    cursor: Annotated[
        str | None, Query(max_length=64, description="next_cursor of the page before.")
    ] = None,
) -> Response:
    """What was handed in; folders below the dataset roots are not listed."""
    before = LAST if cursor is None else decode_cursor(cursor, "dataset")
    found = await daemon.datasets.page(before=before, limit=limit + 1, name=name, user=user)
    listed = found[:limit]
    more = encode_cursor(listed[-1].number, "dataset") if len(found) > limit else None
    return answer({"datasets": [view(each, caller) for each in listed], "next_cursor": more})


@router.get(
    "/datasets/{key}",
    summary="Look at one dataset",
    responses=shown(DatasetView, EXAMPLE, DatasetNotFound),
)
async def get_dataset(
    key: Key,
    daemon: Daemon,
    caller: Caller,
    wait: Annotated[
        float, Query(ge=0, le=60, description="Seconds to wait for the end of its check.")
    ] = 0,
) -> Response:
    """A name alone means its newest version."""
    if wait:
        return answer(view(await daemon.datasets.wait(key, wait), caller))
    return answer(view(await daemon.datasets.get(key), caller))


_OPENED: dict[str, Any] = {"for everybody": {"value": {"is_public": True}}}


@json_router.patch(
    "/datasets/{key}",
    summary="Open a dataset to others, or close it",
    responses=shown(DatasetView, {**EXAMPLE, "is_public": True}, DatasetNotFound),
)
async def change_dataset(
    key: Key,
    body: Annotated[DatasetChange, Body(openapi_examples=_OPENED)],
    daemon: Daemon,
    caller: Submitter,
) -> Response:
    """Everybody sees that a dataset is there and may train on it; its rows are for its owner and
    admins unless it is public."""
    changed = await daemon.datasets.set_public(key, caller, is_public=body.is_public)
    return answer(view(changed, caller))


@router.get(
    "/datasets/{key}/preview",
    summary="The first rows",
    responses=shown(
        PreviewView,
        {"key": "support@v1.0", "rows": [{"messages": [{"role": "user", "content": "Hi"}]}]},
        *(DatasetNotFound, DatasetNotReady, InspectorUnavailable),
    ),
)
async def preview_dataset(
    key: Key,
    daemon: Daemon,
    caller: Caller,
    rows: Annotated[int, Query(ge=1, le=100)] = 5,
) -> Response:
    """As they are trained on; for its owner and admins unless it is public."""
    found = await daemon.datasets.get(key)
    require_readable(found, caller, f"the content of dataset {found.label}")
    first = await daemon.datasets.preview(found.id, rows)
    return answer({"key": found.label, "rows": first})


_CONTENT = {
    "description": "the bytes that were handed in; Range is honoured",
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
}


@router.get(
    "/datasets/{key}/content",
    summary="Download the file as it came",
    response_class=Response,
    responses={
        200: _CONTENT,
        206: {**_CONTENT, "description": "a part of it"},
        416: {"description": "there is no such part"},
        **documented(DatasetNotFound, DatasetNotReady),
    },
)
async def download_dataset(key: Key, daemon: Daemon, caller: Caller) -> Response:
    """For its owner and admins unless it is public. Its ETag is its hash."""
    found = await daemon.datasets.get(key)
    require_readable(found, caller, f"the content of dataset {found.label}")
    file = await daemon.datasets.content(found.id)
    headers = {"etag": f'"{found.sha256}"'} if found.sha256 else {}
    headers["content-disposition"] = disposition(found.filename or f"{found.name}.jsonl")
    return HeldFile(file, headers)


@router.delete(
    "/datasets/{key}",
    summary="Remove a dataset",
    responses=shown(DatasetView, EXAMPLE, DatasetNotFound, DatasetInUse),
)
async def delete_dataset(key: Key, daemon: Daemon, caller: Submitter) -> Response:
    """Refused while a job or a model refers to it. Its name and version are never given again."""
    return answer(view(await daemon.datasets.delete(key, caller), caller))
