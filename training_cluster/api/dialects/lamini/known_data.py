"""Finds a dataset of this daemon by whatever Lamini's clients call it."""

from __future__ import annotations

from training_cluster.api.services import Services
from training_cluster.domain.dataset_errors import DatasetNotFound
from training_cluster.domain.errors import InvalidDataset

_HINT = (
    "rows come by train itself, by POST /v1/local-data, or by PUT to the dataset's place; lamini 2 "
    "sends them in train only: its upload_data and upload_file send nothing"
)


async def found(daemon: Services, key: str) -> tuple[int | None, str | None]:
    """How many rows a dataset has, None while nobody knows, and whose it is; nobody owns what is
    registered in a folder. Raises DatasetNotFound."""
    if (folder := await daemon.datasets.folder(key)) is not None:
        return folder.rows, None
    dataset = await daemon.datasets.get(key)
    return dataset.rows, dataset.user


async def require_data(daemon: Services, key: str) -> str | None:
    """Whose a dataset is, as `found` says it. Raises InvalidDataset, with how data comes, for one
    of which nothing has come."""
    try:
        return (await found(daemon, key))[1]
    except DatasetNotFound as error:
        message = f"there is no dataset {key[:140]!r}: nothing was sent to it"
        raise InvalidDataset(message, hint=_HINT) from error
