"""Files for OpenAI's clients: our datasets, and what jobs have measured as result files."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from training_cluster.api.attachment import disposition
from training_cluster.api.auth import Caller, Submitter
from training_cluster.api.dialects.openai import file_views, names, results
from training_cluster.api.dialects.openai.from_job import has_results
from training_cluster.api.dialects.openai.views import answers
from training_cluster.api.held_file import HeldFile
from training_cluster.api.late_routes import LateRouter
from training_cluster.api.multipart import read_form
from training_cluster.api.services import Daemon, Services, answer
from training_cluster.domain.dataset import DatasetVersion, NewDataset
from training_cluster.domain.dataset_errors import (
    DatasetInUse,
    DatasetNotFound,
    DatasetNotReady,
    NameTaken,
)
from training_cluster.domain.dialect import DialectRequest
from training_cluster.domain.disclosure import may_read, require_readable, veil
from training_cluster.domain.errors import (
    Conflict,
    FieldProblem,
    InvalidRequest,
    JobNotFound,
    StorageFull,
)
from training_cluster.domain.job import Job
from training_cluster.domain.principal import Principal
from training_cluster.services import paired_datasets
from training_cluster.services.jobs import LAST

router = LateRouter(prefix="/v1/files", tags=["openai"])

FileId = Annotated[str, Path(max_length=160, description="`file-...`, or a dataset's name.")]
Order = Literal["asc", "desc"]
PURPOSE = "fine-tune"
_MOST, _MOST_RESULTS, _AT_ONCE = 10_000, 100, 500


@router.post(
    "",
    summary="Upload a file",
    openapi_extra=file_views.FORM,
    responses=answers(file_views.FileView, file_views.UPLOADED, NameTaken, StorageFull),
)
async def create_file(request: Request, daemon: Daemon, caller: Submitter) -> Response:
    """Its status becomes `processed`, or `error`, when its rows were checked; jobs may name it at
    once. What `expires_after` says has no effect: files stay until they are deleted."""
    async with read_form(request, daemon.datasets) as form:
        new = new_dataset(caller.name, form.filename, form.fields.get("purpose"))
        assert form.incoming is not None
        added = await daemon.datasets.adopt(form.incoming, new)
    return answer(view(added, caller))


def new_dataset(user: str, filename: str, purpose: str | None) -> NewDataset:
    """The dataset a file is to become. Raises InvalidRequest for a purpose that is none here."""
    if purpose != PURPOSE:
        said = "there is none" if purpose is None else f"{purpose[:64]!r} is not one of them"
        message = f"files are taken here for the purpose {PURPOSE!r}; {said}"
        raise InvalidRequest(message, problems=(FieldProblem("purpose", message, PURPOSE),))
    return NewDataset(
        user=user,
        filename=filename,
        purpose=PURPOSE,
        request=DialectRequest(names.DIALECT, {}),
    )


@router.get(
    "",
    summary="List files, newest first",
    responses=answers(file_views.FileList, file_views.FILES, DatasetNotFound),
)
async def list_files(
    daemon: Daemon,
    caller: Caller,
    purpose: Annotated[str | None, Query(max_length=64, description="Only these.")] = None,
    after: Annotated[str | None, Query(max_length=160, description="A file's id.")] = None,
    limit: Annotated[int, Query(ge=1, le=_MOST)] = _MOST,
    order: Order = "desc",
) -> Response:
    """Everybody's. Result files are listed with `purpose=fine-tune-results` alone, at most 100 at
    once."""
    if purpose == results.PURPOSE:
        return answer(await _results(daemon, after, min(limit, _MOST_RESULTS), order))
    files = _files(daemon, purpose, after if order == "desc" else None)
    if order == "desc":
        found = [file async for file in _first(files, limit + 1)]
    else:
        behind = 0 if after is None else await _place(after, daemon)
        found = [file async for file in files if file.number > behind][::-1]
    data = [view(file, caller) for file in found[:limit]]
    return answer(file_views.page(data, more=len(found) > limit))


async def _files(
    daemon: Services, purpose: str | None, after: str | None
) -> AsyncIterator[DatasetVersion]:
    """Uploaded files, newest first. A pair is no file: its halves are."""
    before = LAST
    if after is not None:
        before = await _place(after, daemon)
    while True:
        part = await daemon.datasets.page(before=before, limit=_AT_ONCE)
        for file in part:
            if file.purpose != paired_datasets.PURPOSE and purpose in (None, _purpose(file)):
                yield file
        if len(part) < _AT_ONCE:
            return
        before = part[-1].number


async def _first(files: AsyncIterator[DatasetVersion], most: int) -> AsyncIterator[DatasetVersion]:
    count = 0
    async for file in files:
        yield file
        count += 1
        if count == most:
            return


async def _place(after: str, daemon: Services) -> int:
    """Where a page begins: behind a file, also one that was deleted since the page before."""
    found = await daemon.datasets.ever(names.native_file(after))
    return (found or await _find(after, daemon)).number


async def _results(daemon: Services, after: str | None, limit: int, order: Order) -> dict[str, Any]:
    if order == "asc":
        message = "result files are listed newest first"
        raise InvalidRequest(message, problems=(FieldProblem("order", message, "desc"),))
    before, found = LAST, list[Job]()
    if after is not None:
        before = (await _job_of(after, daemon)).number
    while len(found) <= limit:
        part = await daemon.jobs.page(limit=_AT_ONCE, before=before)
        found += [job for job in part if has_results(job)]
        if len(part) < _AT_ONCE:
            break
        before = part[-1].number
    data = []
    for job in found[:limit]:
        with contextlib.suppress(JobNotFound):  # removed since the page was read
            data.append(await results.view(daemon.curves, job))
    return file_views.page(data, more=len(found) > limit)


@router.get(
    "/{file_id}",
    summary="Look at a file",
    responses=answers(file_views.FileView, file_views.FILE, DatasetNotFound),
)
async def get_file(file_id: FileId, daemon: Daemon, caller: Caller) -> Response:
    """`status_details` says why one cannot be used; what quotes its rows is for its owner and
    admins."""
    if names.job_of_results(file_id) is not None:
        return answer(await results.view(daemon.curves, await _job_of(file_id, daemon)))
    return answer(view(await _find(file_id, daemon), caller))


@router.get(
    "/{file_id}/content",
    summary="Download a file",
    response_class=Response,
    responses={
        **answers(file_views.FileView, file_views.FILE, DatasetNotFound, DatasetNotReady),
        200: file_views.CONTENT,
        206: file_views.PART,
        416: {"description": "there is no such part"},
    },
)
async def get_content(file_id: FileId, daemon: Daemon, caller: Caller) -> Response:
    """As it came; for its owner and admins unless it is public. Result files, CSV, are for all."""
    if names.job_of_results(file_id) is not None:
        job = await _job_of(file_id, daemon)
        return StreamingResponse(await results.content(daemon.curves, job), media_type="text/csv")
    found = await _find(file_id, daemon)
    require_readable(found, caller, f"the content of file {names.file_id(found.id)}")
    file = await daemon.datasets.content(found.id)
    headers = {"content-disposition": disposition(found.filename or f"{found.name}.jsonl")}
    return HeldFile(file, headers)


@router.delete(
    "/{file_id}",
    summary="Delete a file",
    responses=answers(file_views.DeletedView, file_views.DELETED, DatasetNotFound, DatasetInUse),
)
async def delete_file(file_id: FileId, daemon: Daemon, caller: Submitter) -> Response:
    """Refused while a job or a model refers to it. A result file goes with its job."""
    if names.job_of_results(file_id) is not None:
        job = await _job_of(file_id, daemon)
        caller.require_ownership(job.user, f"job {job.number}")
        raise Conflict(f"{file_id} is made of the metrics of job {job.number} and goes with it")
    gone = await daemon.datasets.delete((await _find(file_id, daemon)).id, caller)
    return answer({"id": names.file_id(gone.id), "object": "file", "deleted": True})


async def _find(file_id: str, daemon: Services) -> DatasetVersion:
    """An uploaded file. Raises DatasetNotFound."""
    try:
        return await daemon.datasets.get(names.native_file(file_id))
    except DatasetNotFound:
        raise _missing(file_id) from None


def _missing(file_id: str) -> DatasetNotFound:
    return DatasetNotFound(f"there is no file {file_id!r}", hint="GET /v1/files lists them")


async def _job_of(file_id: str, daemon: Services) -> Job:
    """The job whose results a file is. Raises DatasetNotFound, as for any other file."""
    try:
        found = await daemon.history.job(names.job_of_results(file_id) or "")
    except JobNotFound:
        raise _missing(file_id) from None
    if not has_results(found):
        raise _missing(file_id)
    return found


def _purpose(file: DatasetVersion) -> str:
    return file.purpose or PURPOSE


def view(file: DatasetVersion, by: Principal) -> dict[str, Any]:
    """A dataset as OpenAI's clients see a file; what quotes its rows is for its owner."""
    details = file.error
    if details is not None and not may_read(file, by):
        details = veil(file.user)
    return {
        "id": names.file_id(file.id),
        "object": "file",
        "bytes": file.bytes,
        "created_at": int(file.created_at),
        "expires_at": None,
        "filename": file.filename or file.label,
        "purpose": _purpose(file),
        "status": file_views.STATUSES[file.state],
        "status_details": details,
    }
