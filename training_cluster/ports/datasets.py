"""What reads datasets that people hand in: a process of its own behind a small protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from training_cluster.domain.dataset import DatasetOrigin, HubSource, Split


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectionTask:
    """A file to be checked. For the origins `path` and `hub` it is fetched from `source` first.

    `folder` is empty and takes the files that are made from it, named by their content.
    `tokenizer` is a folder with the tokenizer of a model. Fetching leaves `keep_free_bytes` of the
    disk free.
    """

    file: Path
    filename: str
    folder: Path
    format: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    split: Split | None = None
    tokenizer: Path | None = None
    origin: DatasetOrigin = DatasetOrigin.UPLOAD
    source: str | None = None
    hub: HubSource | None = None
    hub_url: str = ""
    hub_token: str | None = field(default=None, repr=False)
    keep_free_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What the check found. `original` is a name for the file that came, by its content, None
    when it could not be fetched;
    `train_file` and `validation_file` are names of files in the task's folder, or `original`.
    With an `error` nobody can train on it."""

    bytes: int
    sha256: str
    original: str | None
    report: Mapping[str, Any]
    format: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    rows: int = 0
    validation_rows: int | None = None
    train_file: str | None = None
    validation_file: str | None = None
    error: str | None = None


class DatasetInspector(Protocol):
    """Reads datasets somewhere else than in the daemon's threads: Python would be busy."""

    async def inspect(self, task: InspectionTask) -> Findings:
        """Check a file, make what is to be made of it. Raises InspectorUnavailable, and of that
        kind InspectorDied where it may be the file's fault."""
        ...

    async def first_rows(self, file: Path, most: int) -> Sequence[Mapping[str, Any]]:
        """The first rows of a file as objects. Raises InvalidDataset, InspectorUnavailable, and
        FileNotFoundError."""
        ...
