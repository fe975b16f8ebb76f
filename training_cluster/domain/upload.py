"""Uploads on their way: files that come in parts, and go on where they broke off."""

from __future__ import annotations

from dataclasses import dataclass

from training_cluster.domain.dataset import NewDataset


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A file on its way. `id` becomes that of the dataset. `received_bytes` are on the disk,
    `total_bytes` is None until somebody has said how many there are. `done` means that the dataset
    exists."""

    id: str
    user: str
    asked: NewDataset
    created_at: float
    total_bytes: int | None = None
    received_bytes: int = 0
    done: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """What a request brings: bytes from `first` on, of `total_bytes` in all if that is known.
    `length` None is up to wherever the body ends."""

    first: int
    length: int | None
    total_bytes: int | None


WHOLE = Part(0, None, None)
"""The whole file in one body, in place of whatever came before."""
