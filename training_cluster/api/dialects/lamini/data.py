"""Lamini's routes for data: where it goes, handing it in, finding it again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Body, Path, Query, Request, Response
from pydantic import Field

from training_cluster.api.auth import Caller, Submitter
from training_cluster.api.dialects.lamini import documents, examples, known_data, places, views
from training_cluster.api.dialects.lamini.receiving import new_dataset, receiving
from training_cluster.api.dialects.lamini.schemas import Lenient
from training_cluster.api.late_routes import LateRouter
from training_cluster.api.services import Daemon, Services, answer
from training_cluster.api.strict_json import StrictJsonRoute
from training_cluster.domain.dataset import DatasetVersion
from training_cluster.domain.dataset_errors import DatasetNotFound, NameTaken
from training_cluster.domain.errors import FieldProblem, Forbidden, InvalidRequest, StorageFull

router = LateRouter(prefix="/v1", tags=["lamini"])
strict = LateRouter(prefix="/v1", tags=["lamini"], route_class=StrictJsonRoute)

_PLACE = Field(None, max_length=2048, description="As get-upload-base-path said.")
_ID = Field(min_length=1, max_length=200, description="As an upload answered, or one's own.")
_FRESH = "lamini-"


class LocalData(Lenient):
    """A dataset as a whole."""

    upload_base_path: str | None = _PLACE
    is_public: bool | None = None


class NewPlace(Lenient):
    """A place for a dataset that will come: with the id its client has chosen, or a new one."""

    dataset_id: str | None = Field(None, min_length=1, max_length=200)
    upload_base_path: str | None = _PLACE
    is_public: bool | None = None


class KnownData(Lenient):
    """A dataset that is here."""

    dataset_id: str = _ID
    upload_base_path: str | None = _PLACE


class Datapoints(Lenient):
    """How many rows a client thinks it has sent."""

    dataset_id: str = _ID
    num_datapoints: int = Field(ge=0, le=2**53)


@router.get(
    "/get-upload-base-path",
    summary="Where data is sent",
    responses=documents.answers(views.BasePath, examples.BASE_PATH),
)
async def get_upload_base_path(request: Request, _: Caller) -> Response:
    """An address of this daemon; behind a tunnel that of the tunnel."""
    return answer({"upload_base_path": places.base(request)})


@router.post(
    "/local-data",
    summary="Hand in a dataset",
    openapi_extra=documents.body_with_rows(LocalData),
    responses=documents.answers(views.Stored, examples.STORED, NameTaken, StorageFull),
)
async def local_data(request: Request, daemon: Daemon, caller: Submitter) -> Response:
    """Rows of input and output, as many as one likes. The dataset is durable when the answer
    comes, and is checked then; jobs may name it at once."""
    async with receiving(request, daemon.datasets) as received:
        said = received.parsed(LocalData)
        if received.incoming is None:
            raise _no_rows()
        added = await received.adopt(caller.name, None, is_public=bool(said.is_public))
    return answer(_stored(request, added, added.id, received.rows, said.left_out()))


@strict.post(
    "/data",
    summary="Ask for a place for a dataset",
    responses=documents.answers(views.Place, examples.PLACE, NameTaken),
)
async def new_place(
    request: Request,
    daemon: Daemon,
    caller: Submitter,
    body: Annotated[NewPlace, Body(openapi_examples=examples.NEW_PLACES)],
) -> Response:
    """lamini 2 chooses the id itself. Nothing is kept until the data comes: by PUT to the place, or
    inside the request to train that names it."""
    chosen = body.dataset_id or f"{_FRESH}{daemon.datasets.new_id()[-12:]}"
    dataset_id = places.require_name(chosen)
    await _require_mine(daemon, dataset_id, caller.name)
    place = places.location(request, dataset_id, is_public=bool(body.is_public))
    return answer(
        {
            "dataset_id": dataset_id,
            "upload_base_path": places.base(request),
            "dataset_location": place,
            "warnings": body.left_out(),
        }
    )


@router.put(
    "/data/{dataset_id}",
    summary="Send a dataset to its place",
    openapi_extra=documents.FILE_BODY,
    responses=documents.answers(views.Stored, examples.STORED, NameTaken, StorageFull),
)
async def put_data(
    dataset_id: Annotated[str, Path(min_length=1, max_length=200)],
    request: Request,
    daemon: Daemon,
    caller: Submitter,
    is_public: Annotated[bool, Query(description="As the place says.")] = False,
) -> Response:
    """JSON lines of input and output, or any other file that POST /datasets takes. Sending again
    makes another version; the id means the newest."""
    new = new_dataset(caller.name, places.require_name(dataset_id), is_public=is_public)
    added = await daemon.datasets.receive(request.stream(), new)
    return answer(_stored(request, added, dataset_id, None))


@strict.post(
    "/existing-data",
    summary="Find a dataset again",
    responses=documents.answers(views.Place, examples.PLACE, DatasetNotFound),
)
async def existing_data(
    request: Request,
    daemon: Daemon,
    caller: Caller,
    body: Annotated[KnownData, Body(openapi_examples=examples.KNOWN)],
) -> Response:
    """By the id an upload answered, one's own, or any other name of a dataset here."""
    rows, _ = await known_data.found(daemon, body.dataset_id)
    place = places.location(request, body.dataset_id)
    return answer(
        {
            "dataset_id": body.dataset_id,
            "upload_base_path": places.base(request),
            "dataset_location": place,
            "num_datapoints": rows,
            "warnings": body.left_out(),
        }
    )


@strict.post(
    "/data/num-datapoints",
    summary="Tell how many rows a dataset has",
    responses=documents.answers(views.Counted, examples.COUNTED, DatasetNotFound, Forbidden),
)
async def num_datapoints(
    daemon: Daemon,
    caller: Submitter,
    body: Annotated[Datapoints, Body(openapi_examples=examples.COUNTS)],
) -> Response:
    """Rows are counted here when a dataset is checked: what is told changes nothing. The answer
    has the daemon's own count once it is known."""
    rows, owner = await known_data.found(daemon, body.dataset_id)
    if owner is not None:
        caller.require_ownership(owner, f"dataset {body.dataset_id}")
    counted = body.num_datapoints if rows is None else rows
    content = {"dataset_id": body.dataset_id, "num_datapoints": counted}
    return answer({**content, "warnings": body.left_out()})


async def _require_mine(daemon: Services, name: str, user: str) -> None:
    """Raise NameTaken for an id under which somebody else has a dataset."""
    known = await daemon.datasets.page(limit=1, name=name)
    if known and known[0].user != user:
        raise NameTaken(f"the dataset id {name} is {known[0].user}'s", hint="choose another id")


def _stored(
    request: Request,
    added: DatasetVersion,
    dataset_id: str,
    rows: int | None,
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    return {
        "dataset_id": dataset_id,
        "dataset_location": places.location(request, dataset_id),
        "num_datapoints": rows,
        "name": added.label,
        "warnings": list(warnings),
    }


def _no_rows() -> InvalidRequest:
    message = "data: there are no rows"
    expected = 'a list such as [{"input": "...", "output": "..."}]'
    return InvalidRequest(message, problems=(FieldProblem("data", message, expected),))
