"""The shapes of the dataset routes: what they take and what they answer, with examples."""

from __future__ import annotations

import json
from typing import Annotated, Any, Self

from pydantic import (
    BeforeValidator,
    Field,
    StringConstraints,
    model_validator,
)

from training_cluster.api.examples import STARTED_AT
from training_cluster.api.links import link
from training_cluster.api.schemas import HUB_DATASET_PATTERN, HubToken, Label, Name, Revision
from training_cluster.api.shape import Shape
from training_cluster.api.strict_model import Strict
from training_cluster.api.webhook_views import Remark
from training_cluster.domain.dataset import (
    FORMATS,
    DatasetOrigin,
    DatasetState,
    DatasetVersion,
    NewDataset,
    Split,
)
from training_cluster.domain.disclosure import may_read, veil
from training_cluster.domain.principal import Principal


def _from_text(value: object) -> object:
    """In a form an object comes as JSON text."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            raise ValueError('a JSON object, such as {"prompt": "question"}') from None
    return value


FILE_PATTERN = r"^[^\x00-\x1f\x7f]+$"
Column = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Columns = Annotated[dict[str, Column], BeforeValidator(_from_text), Field(max_length=16)]
DatasetKey = Annotated[str, StringConstraints(min_length=1, max_length=140)]


class DatasetFields(Strict):
    """What may be said of a new dataset."""

    name: Name | None = Field(None, description="Left out: the file's name.")
    version: Name | None = Field(None, description="Left out: the next one, v1.0, v2.0, ...")
    format: Name | None = Field(
        None,
        description=f"One of {', '.join(FORMATS)}; left out: it is found out.",
    )
    columns: Columns = Field(
        default_factory=dict, description="Role to column, where columns have unusual names."
    )
    validation_fraction: float | None = Field(
        None, gt=0, lt=1, description="Hold back this share of the rows for validation."
    )
    validation_seed: int = Field(42, ge=0, le=2**31 - 1, description="Draws those rows.")
    validation_dataset: DatasetKey | None = Field(
        None, description="Validate by this dataset instead."
    )
    model: Annotated[str, StringConstraints(max_length=1024)] | None = Field(
        None, description="Count tokens for the report as this model does, if it is here."
    )
    description: Remark = ""
    purpose: Label | None = None

    @model_validator(mode="after")
    def _one_validation(self) -> Self:
        if self.validation_fraction is not None and self.validation_dataset is not None:
            raise ValueError("one of validation_fraction and validation_dataset")
        return self

    def to_new(self, user: str, filename: str = "") -> NewDataset:
        """The domain's value."""
        split = None
        if self.validation_fraction is not None:
            split = Split(self.validation_fraction, self.validation_seed)
        return NewDataset(
            user=user,
            name=self.name,
            version=self.version,
            filename=filename,
            format=self.format,
            columns=self.columns,
            validation=split or self.validation_dataset,
            model=self.model,
            description=self.description,
            purpose=self.purpose,
        )


class HubRequest(Strict):
    """Files of a dataset on the hub."""

    dataset: Annotated[str, StringConstraints(pattern=HUB_DATASET_PATTERN, max_length=200)]
    revision: Revision = "main"
    split: Name = "train"
    file: Annotated[str, StringConstraints(pattern=FILE_PATTERN, max_length=512)] | None = None


class ImportRequest(DatasetFields):
    """A dataset from where it lies: exactly one of path, hub and rows."""

    path: Annotated[str, StringConstraints(min_length=1, max_length=4096)] | None = Field(
        None, description="A file below a dataset root, on the daemon's machine."
    )
    hub: HubRequest | None = None
    rows: list[dict[str, Any]] | None = Field(None, min_length=1, max_length=100_000)
    private_hf_token: HubToken | None = Field(
        None,
        repr=False,
        description="For the hub; kept in a file until it was used, and never shown.",
    )

    @model_validator(mode="after")
    def _one_place(self) -> ImportRequest:
        if sum(each is not None for each in (self.path, self.hub, self.rows)) != 1:
            raise ValueError("exactly one of path, hub and rows")
        if self.private_hf_token is not None and self.hub is None:
            raise ValueError("private_hf_token goes with hub")
        return self


class DatasetChange(Strict):
    """What can be changed about a dataset."""

    is_public: bool = Field(description="Whether everybody may read its rows.")


class DatasetView(Shape):
    """A dataset version. Times are Unix seconds; `report` says what the check has found."""

    dataset_id: str
    number: int
    name: str
    version: str
    key: str
    user: str
    status: DatasetState
    origin: DatasetOrigin
    source: str | None
    filename: str
    bytes: int
    sha256: str | None
    format: str | None
    columns: dict[str, str]
    rows: int | None
    validation_rows: int | None
    description: str
    purpose: str | None
    is_public: bool
    created_at: float
    ready_at: float | None
    error: str | None
    report: dict[str, Any] | None
    links: dict[str, str]


class DatasetPage(Shape):
    """Versions, newest first."""

    datasets: list[DatasetView]
    next_cursor: str | None


class PreviewView(Shape):
    """The first rows that are trained on."""

    key: str
    rows: list[dict[str, Any]]


_ID = "0199a0b4-61c2-7d10-8a6b-0b5a4f1e9c77"
EXAMPLE: dict[str, Any] = {
    "dataset_id": _ID,
    "number": 3,
    "name": "support",
    "version": "v1.0",
    "key": "support@v1.0",
    "user": "alice",
    "status": "ready",
    "origin": "upload",
    "source": None,
    "filename": "support.jsonl",
    "bytes": 48211,
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "format": "openai",
    "columns": {"messages": "messages"},
    "rows": 200,
    "validation_rows": None,
    "description": "",
    "purpose": None,
    "is_public": False,
    "created_at": STARTED_AT,
    "ready_at": STARTED_AT + 2,
    "error": None,
    "report": {
        "rows": 200,
        "duplicates": 0,
        "duplicates_complete": True,
        "characters": {
            "shortest": 52,
            "mean": 231.5,
            "longest": 910,
            "histogram": [{"at_most": 256, "rows": 140}, {"at_most": 1024, "rows": 60}],
        },
        "tokens": None,
        "kind": "jsonl",
        "columns": {"messages": "an array"},
        "detected_format": "openai",
        "remarks": [],
        "bad_rows": {"count": 0, "first": []},
    },
    "links": {
        "self": f"/datasets/{_ID}",
        "preview": f"/datasets/{_ID}/preview",
        "content": f"/datasets/{_ID}/content",
    },
}
NEW_EXAMPLE = {
    **EXAMPLE,
    "status": "checking",
    **dict.fromkeys(("sha256", "format", "rows", "ready_at", "report")),
    "columns": {},
}


def view(found: DatasetVersion, by: Principal) -> dict[str, Any]:
    """A version as `by` may see it: what quotes its rows is for its owner and admins
    unless it is public."""
    error, report = found.error, found.report
    if not may_read(found, by):
        error = None if error is None else veil(found.user)
        report = _without_quotes(found)
    return {
        "dataset_id": found.id,
        "number": found.number,
        "name": found.name,
        "version": found.version,
        "key": found.label,
        "user": found.user,
        "status": found.state.value,
        "origin": found.origin.value,
        "source": found.asked.source,
        "filename": found.filename,
        "bytes": found.bytes,
        "sha256": found.sha256,
        "format": found.format,
        "columns": found.columns,
        "rows": found.rows,
        "validation_rows": found.validation_rows,
        "description": found.asked.description,
        "purpose": found.purpose,
        "is_public": found.is_public,
        "created_at": found.created_at,
        "ready_at": found.ready_at,
        "error": error,
        "report": report,
        "links": {
            "self": link(f"/datasets/{found.id}"),
            "preview": link(f"/datasets/{found.id}/preview"),
            "content": link(f"/datasets/{found.id}/content"),
        },
    }


def _without_quotes(found: DatasetVersion) -> dict[str, Any] | None:
    if found.report is None:
        return None
    bad = {**found.report.get("bad_rows", {}), "first": []}
    return {**found.report, "bad_rows": bad}
