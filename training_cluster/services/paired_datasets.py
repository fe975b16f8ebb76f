"""Datasets whose validation rows are named beside them, by the request that trains on them.

A version never changes, so the pair is a version of its own: the same rows, held against the other
file. It is made once for two files and found again by its name.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import IO

from training_cluster.domain.dataset import DatasetState, DatasetVersion, NewDataset
from training_cluster.domain.dataset_errors import DatasetNotFound
from training_cluster.domain.dialect import DialectRequest
from training_cluster.domain.errors import FieldProblem, InvalidDataset
from training_cluster.domain.principal import Principal
from training_cluster.services.dataset_choice import PAIR, invalid
from training_cluster.services.datasets import Datasets
from training_cluster.services.held_out import can_be_one_form, misfit

PURPOSE = PAIR
_PIECE_BYTES = 4 << 20


async def paired(
    datasets: Datasets,
    training: DatasetVersion,
    validation: DatasetVersion,
    dialect: str,
    by: Principal,
) -> DatasetVersion:
    """The rows of one version held against those of another; both may still be checked.

    Raises InvalidDataset where it is known that they cannot be, DatasetNotReady while the content
    of the first is fetched, and StorageFull."""
    _refuse_what_cannot_be(training, validation, None if by.is_admin else by.name)
    name = _name(training, validation)
    try:
        known = await datasets.get(name)
    except DatasetNotFound:
        known = None
    if known is not None and known.state is not DatasetState.INVALID:
        return known
    asked = training.asked
    new = NewDataset(
        user=training.user,
        name=name,
        filename=training.filename,
        format=asked.format,
        columns=asked.columns,
        validation=validation.id,
        model=asked.model,
        description=f"{training.label} held against {validation.label}",
        purpose=PURPOSE,
        request=DialectRequest(dialect, {"training": training.id, "validation": validation.id}),
    )
    with await datasets.content(training.id) as file:
        return await datasets.receive(_read(file), new)


def _refuse_what_cannot_be(
    training: DatasetVersion, validation: DatasetVersion, user: str | None
) -> None:
    for field, version in (("dataset_version", training), ("validation_version", validation)):
        if version.state is DatasetState.INVALID:
            raise invalid(version, user, field)
    if DatasetState.CHECKING in (training.state, validation.state):
        return
    if can_be_one_form(training, validation):
        return
    if why := misfit(training, validation, training.user):
        problem = FieldProblem("validation_version", why, f"the format {training.format}")
        raise InvalidDataset(why, problems=(problem,))


def _name(training: DatasetVersion, validation: DatasetVersion) -> str:
    both = hashlib.sha256(f"{training.id} {validation.id}".encode()).hexdigest()
    return f"{training.name[:40]}-pair-{both[:12]}"


async def _read(file: IO[bytes]) -> AsyncIterator[bytes]:
    while data := await asyncio.to_thread(file.read, _PIECE_BYTES):
        yield data
