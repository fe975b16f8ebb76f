"""What may be removed from the disk, and what a removal would free."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class PruneKind(StrEnum):
    """What of a finished job can go, and of what was handed in."""

    CHECKPOINTS = "checkpoints"  # those on the way to a model; never a result
    LOGS = "logs"  # what trainers printed
    CACHES = "caches"  # converted datasets; local copies of runs that W&B has
    JOBS = "jobs"  # rows and directories of jobs that left no model
    RESULTS = "results"  # rows and directories of jobs, the model with them
    DATASETS = "datasets"  # handed in, and nothing refers to them
    UPLOADS = "uploads"  # what has come of files that never became whole
    DELIVERIES = "deliveries"  # notifications that came to their end


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneRequest:
    """Which finished jobs and what of them: those that ended more than `older_than_seconds` ago, of
    one user, in one state."""

    kinds: frozenset[PruneKind]
    older_than_seconds: float = 0.0
    user: str | None = None
    state: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneItem:
    """One thing that goes: a path below the state directory, or rows (`path` empty). `name` is what
    people call it, `key` by what it is removed where it is nothing of a job."""

    kind: PruneKind
    job_id: str | None = None
    job_number: int | None = None
    user: str | None = None
    name: str | None = None
    key: str = ""
    path: str = ""
    bytes: int = 0


@dataclass(slots=True)
class PruneReport:
    """What would go, or went; `failed` says in words what could not."""

    items: list[PruneItem] = field(default_factory=list)
    deliveries: int = 0
    failed: list[str] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        """All that is freed."""
        return sum(item.bytes for item in self.items)
