"""Takes in a request that may hold a whole dataset: the rows go to disk while they arrive."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from training_cluster.api.dialects.lamini.inline_rows import ROWS, InlineRows
from training_cluster.api.dialects.lamini.to_spec import DIALECT
from training_cluster.api.strict_json import require_json
from training_cluster.domain.dataset import DatasetOrigin, DatasetVersion, NewDataset
from training_cluster.domain.dialect import DialectRequest
from training_cluster.services.datasets import Datasets
from training_cluster.services.incoming import Incoming

_FILENAME = "lamini.jsonl"

Model = TypeVar("Model", bound=BaseModel)


@dataclass(slots=True)
class Received:
    """A request: its `members` beside the rows, how many `rows` there are, and, where there are
    any, the file they lie in."""

    members: dict[str, Any]
    rows: int = 0
    incoming: Incoming | None = None
    _datasets: Datasets | None = field(default=None, repr=False)

    def parsed(self, model: type[Model]) -> Model:
        """The members, held against a model. Raises RequestValidationError."""
        return parse(model, self.members)

    async def adopt(
        self, user: str, name: str | None, *, is_public: bool, base_model: str | None = None
    ) -> DatasetVersion:
        """Make a dataset of the rows; `name` is the id a client has chosen for it. Raises
        InvalidRequest and NameTaken."""
        assert self.incoming is not None
        assert self._datasets is not None
        new = new_dataset(user, name, is_public=is_public, base_model=base_model)
        return await self._datasets.adopt(self.incoming, new)


@asynccontextmanager
async def receiving(request: Request, datasets: Datasets) -> AsyncIterator[Received]:
    """The request, read to its end. Rows of which nobody makes a dataset are forgotten. Raises
    InvalidRequest and StorageFull."""
    require_json(request)
    body = InlineRows(request.stream())
    await body.begin()
    if not body.has_rows:
        yield Received(_without_rows(body))
        return
    incoming = await datasets.open(datasets.new_id())
    try:
        await incoming.copy(body.lines())
        yield Received(_without_rows(body), body.rows, incoming, datasets)
    finally:
        await datasets.abandon(incoming)


def new_dataset(
    user: str, name: str | None, *, is_public: bool, base_model: str | None = None
) -> NewDataset:
    """A dataset that came by Lamini's API. The id its client has chosen is its name."""
    return NewDataset(
        user=user,
        name=name,
        filename=_FILENAME,
        model=base_model,
        origin=DatasetOrigin.ROWS,
        is_public=is_public,
        request=DialectRequest(DIALECT, {"dataset_id": name, "is_public": is_public}),
    )


def parse(model: type[Model], members: dict[str, Any]) -> Model:
    """A body, held against a model. Raises RequestValidationError."""
    try:
        return model.model_validate(members)
    except ValidationError as error:
        told = [{**each, "loc": ("body", *each["loc"])} for each in error.errors()]
        raise RequestValidationError(told) from None


def _without_rows(body: InlineRows) -> dict[str, Any]:
    """The members that are no rows; `data` stays where it is something else than a list."""
    kept = {name: value for name, value in body.members.items() if name != ROWS}
    said = body.members.get(ROWS)
    return kept if said is None or isinstance(said, list) else {**kept, ROWS: said}
