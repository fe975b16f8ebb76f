"""Datasets that people hand in: immutable versions with a name, and what is known of each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from training_cluster.domain.dialect import DialectRequest

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What names of datasets and versions look like."""
SHA256 = re.compile(r"[0-9a-f]{64}")
"""What the hash of a content looks like; no name does."""
FORMATS = (
    *("alpaca", "prompt_completion", "sharegpt", "openai", "preference", "kto", "text"),
    *("openai_preference", "messages_preference", "messages_kto", "messages_tools"),
)
"""What the rows of a file may look like: the first seven are trained on as they are."""
ROLES = (
    *("prompt", "query", "response", "system", "history", "messages", "tools"),
    *("chosen", "rejected", "kto_tag"),
)
"""What a column may be for."""
_UNWANTED = re.compile(r"[^A-Za-z0-9._-]+")
_COUNTED = re.compile(r"v([0-9]{1,9})(\.[0-9]+)*")


class DatasetState(StrEnum):
    """Where a version is in its life."""

    CHECKING = "checking"  # its content is read by a worker; -> ready or invalid
    READY = "ready"  # jobs can train on it
    INVALID = "invalid"  # its error and report say why it cannot be used


class DatasetOrigin(StrEnum):
    """How a version came."""

    UPLOAD = "upload"
    PATH = "path"  # a file below a dataset root
    HUB = "hub"  # fetched from a model hub
    ROWS = "rows"  # rows inside a request


@dataclass(frozen=True, slots=True)
class Split:
    """Hold back this share of the rows (0 to 1) for validation, drawn by `seed`."""

    fraction: float
    seed: int = 42


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSource:
    """Files of a dataset on a model hub: those of a split, or the one that is named. `revision`
    is a branch, a tag or a commit."""

    dataset: str
    revision: str = "main"
    split: str = "train"
    file: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDataset:
    """A version somebody hands in.

    Without `name` it is made from `filename`, without `version` the next number is taken
    (`v1.0`, `v2.0`, ...), without `format` it is found out. `columns` maps roles to columns where
    they have unusual names. `validation` is a share of the rows or the key of another dataset.
    `model` names the model whose tokenizer counts tokens for the report. `source` is the path or
    the hub's name it comes from, `hub` says which part of that. Everybody may read the rows of one
    that `is_public`.
    """

    user: str
    name: str | None = None
    version: str | None = None
    filename: str = ""
    format: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    validation: Split | str | None = None
    model: str | None = None
    description: str = ""
    purpose: str | None = None
    request: DialectRequest | None = None
    origin: DatasetOrigin = DatasetOrigin.UPLOAD
    source: str | None = None
    hub: HubSource | None = None
    is_public: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetVersion:
    """A version as the store knows it. Times are Unix seconds.

    `sha256` is that of the file that came, known once it was checked; `original`, `train_file`
    and `validation_file` are names of immutable files in the dataset folder. `columns` maps roles
    to columns. `report` is what the check found, `error` why the version is invalid.
    """

    id: str
    number: int
    name: str
    version: str
    user: str
    state: DatasetState
    origin: DatasetOrigin
    filename: str
    bytes: int
    created_at: float
    asked: NewDataset
    ready_at: float | None = None
    deleted_at: float | None = None
    sha256: str | None = None
    format: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    rows: int | None = None
    validation_rows: int | None = None
    original: str | None = None
    train_file: str | None = None
    validation_file: str | None = None
    report: Mapping[str, Any] | None = None
    error: str | None = None

    @property
    def label(self) -> str:
        """What names exactly this version: `name@version`."""
        return f"{self.name}@{self.version}"

    @property
    def files(self) -> set[str]:
        """The names of the immutable files it refers to."""
        names = (self.original, self.train_file, self.validation_file)
        return {name for name in names if name}

    @property
    def purpose(self) -> str | None:
        """What its owner said it is for."""
        return self.asked.purpose

    @property
    def is_public(self) -> bool:
        """Whether everybody may read its rows."""
        return self.asked.is_public

    @property
    def request(self) -> DialectRequest | None:
        """What a dialect remembers of it."""
        return self.asked.request


def name_from(text: str) -> str:
    """A name for what has none, from its file's name."""
    stem = text.replace("\\", "/").rpartition("/")[2]
    while "." in stem.strip(".") and stem.rpartition(".")[2].isalnum():
        stem = stem.rpartition(".")[0]
    plain = _UNWANTED.sub("-", stem).strip("-._")[:48]
    return plain if NAME.fullmatch(plain) else "dataset"


def next_version(taken: list[str]) -> str:
    """The version after those that are taken: `v1.0`, `v2.0` and so on."""
    numbers = [int(found[1]) for each in taken if (found := _COUNTED.fullmatch(each))]
    return f"v{max(numbers, default=0) + 1}.0"
