"""Checks a whole version, every row of it, and says what it is."""

from __future__ import annotations

import hashlib
import os

from training_cluster.adapters.dataset_directory.folder import VersionFolder
from training_cluster.adapters.dataset_directory.formats import RowChecker
from training_cluster.adapters.dataset_directory.manifest import Manifest
from training_cluster.adapters.dataset_directory.refusal import refuse
from training_cluster.adapters.dataset_directory.rows import Digest, read_rows
from training_cluster.ports import Dataset


def check_version(
    folder: VersionFolder, manifest: Manifest, content: bytes, largest_array_bytes: int
) -> Dataset:
    """Read all files of a version; `content` is the manifest's. Raises InvalidDataset.

    `columns` of the answer is complete: every role the rows have, and no other.
    """
    digest = hashlib.sha256(content)
    train = _check_file(folder, manifest.train, manifest, digest, largest_array_bytes)
    columns = train.columns()
    validation = manifest.validation
    if validation is not None:
        held_out = _check_file(folder, validation, manifest, digest, largest_array_bytes)
        _compare(columns, held_out.columns(), folder, manifest.train, validation)
    return Dataset(
        version=folder.version,
        format=manifest.format,
        train_file=folder.resolve(manifest.train),
        validation_file=folder.resolve(validation) if validation is not None else None,
        columns=columns,
        rows=train.rows,
        sha256=digest.hexdigest(),
        description=manifest.description,
    )


def _check_file(
    folder: VersionFolder, name: str, manifest: Manifest, digest: Digest, largest_array_bytes: int
) -> RowChecker:
    where = folder.where(name)
    checker = RowChecker(where, manifest.format, manifest.columns)
    with folder.open(name) as stream:
        digest.update(f"\0{name}\0{os.fstat(stream.fileno()).st_size}\0".encode())
        for row in read_rows(stream, where, digest, largest_array_bytes=largest_array_bytes):
            checker.check(row)
    return checker


def _compare(
    train: dict[str, str], validation: dict[str, str], folder: VersionFolder, *names: str
) -> None:
    """LLaMA-Factory reads both files by one list of columns and fails on an absent one."""
    for role in sorted(train.keys() ^ validation.keys()):
        lacking, having = names if role in validation else reversed(names)
        column = (train | validation)[role]
        found = f"is in no row, though {having} has it"
        expected = "the column in both files (null where a row has nothing) or in neither"
        raise refuse(f"{folder.where(lacking)}, column {column!r}", found, expected)
