"""Finds the dataset a job means: a registered folder first, then what people have handed in."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

from training_cluster.domain.dataset import DatasetState, DatasetVersion
from training_cluster.domain.dataset_errors import DatasetNotFound
from training_cluster.domain.disclosure import veil
from training_cluster.domain.errors import FieldProblem, InvalidDataset, UnknownDataset
from training_cluster.domain.job import Job
from training_cluster.ports import Dataset, DatasetRegistry
from training_cluster.services.dataset_files import DatasetFiles
from training_cluster.store import datasets
from training_cluster.store.database import Database

PAIR = "fine-tune-pair"
"""The purpose of a dataset that is two others; its description names them."""
_FIELD = "dataset_version"


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a job will train on. `key` names exactly it; `dataset` is None while it is checked."""

    key: str
    dataset_id: str
    dataset: Dataset | None


class DatasetChoice:
    """The datasets of jobs. `folders` is asked on the caller's thread by `resolve`."""

    def __init__(self, database: Database, files: DatasetFiles, folders: DatasetRegistry) -> None:
        self._database = database
        self._files = files
        self.folders = folders

    async def choose(self, key: str, unknown: UnknownDataset, user: str | None) -> Chosen:
        """A dataset that was handed in, for a new job of a user, or of an admin (None). Raises
        InvalidDataset for one whose check failed, and the given `unknown` where there is none."""
        try:
            found = await self._database.read(lambda c: datasets.find(c, key))
        except DatasetNotFound:
            raise await self._unknown(key, unknown) from None
        if found.state is DatasetState.INVALID:
            raise invalid(found, user)
        dataset = self._dataset(found) if found.state is DatasetState.READY else None
        return Chosen(found.label, found.id, dataset)

    async def handed_in(self, job: Job) -> Dataset | None:
        """The dataset of a job that trains on one that was handed in; None for one of a folder.
        Raises InvalidDataset when it is not there any more, or not usable."""
        if job.dataset_id is None:
            return None
        dataset_id = job.dataset_id
        found = await self._database.read(lambda c: datasets.ever(c, dataset_id))
        if found is None or found.deleted_at is not None:
            raise _refusal(f"the dataset {job.spec.dataset_version} was deleted")
        if found.state is not DatasetState.READY:
            raise invalid(found, job.user)
        return self._dataset(found)

    def _dataset(self, found: DatasetVersion) -> Dataset:
        assert found.train_file is not None
        assert found.format is not None
        held_out = found.validation_file
        return Dataset(
            version=found.label,
            format=found.format,
            train_file=self._files.stored(found.train_file),
            validation_file=None if held_out is None else self._files.stored(held_out),
            columns=found.columns,
            rows=found.rows or 0,
            sha256=found.sha256 or "",
            description=found.asked.description,
            remarks=tuple((found.report or {}).get("remarks") or ()),
        )

    async def _unknown(self, key: str, unknown: UnknownDataset) -> UnknownDataset:
        name, _, version = key.partition("@")
        known = await self._database.read(datasets.names)
        hint = f"{unknown.hint} Datasets that were handed in: GET /datasets"
        if version and name in known:
            hint = f"{name} is there, its version {version} is not: GET /datasets?name={name}"
        elif near := get_close_matches(name, known, n=1):
            hint += f". Did you mean {near[0]!r}, which was handed in?"
        return UnknownDataset(unknown.message, problems=unknown.problems, hint=hint)


def invalid(found: DatasetVersion, user: str | None, field: str = _FIELD) -> InvalidDataset:
    """The refusal of one that is not ready; what quotes its rows is for its owner and, as None,
    for admins."""
    why = found.error or "it is being checked"
    if found.error is not None and user not in (None, found.user):
        why = veil(found.user)
    named = found.asked.description if found.purpose == PAIR else found.label
    return _refusal(f"dataset {named} cannot be used: {why}", field)


def _refusal(message: str, field: str = _FIELD) -> InvalidDataset:
    problem = FieldProblem(field, message, "a dataset that is ready")
    return InvalidDataset(message, problems=(problem,), hint="GET /datasets lists them")
