"""Finds what of a finished job can go, on the disk; decides nothing about age or user."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from training_cluster.domain.prune import PruneItem, PruneKind
from training_cluster.services.log_files import LOG_NAME
from training_cluster.services.removal import measure
from training_cluster.store.pruning import FinishedJob

_CHECKPOINT = re.compile(r"checkpoint-(\d{1,12})")
_WANDB_RUN = re.compile(r"run-\d{8}_\d{6}-([\w-]+)")
_CACHE = "datasets_cache"
_KEPT = 2  # of a job that did not complete: to go on from, and one before should that be torn
TOMBSTONE = "pruned"


class Prunable:
    """Looks below one state directory; every path it names is relative to that."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir

    def of_job(self, job: FinishedJob, kind: PruneKind) -> list[PruneItem]:
        """What of one kind a job has."""
        if kind in (PruneKind.JOBS, PruneKind.RESULTS):
            return [self._item(job, kind, self._state_dir / "jobs" / job.id)]
        paths = (p for folder in self._own(job) for p in self._paths(job, kind, folder))
        return [self._item(job, kind, path) for path in paths if os.path.lexists(path)]

    def _own(self, job: FinishedJob) -> list[Path]:
        """The attempts' directories, those that lie where ours lie."""
        home = self._state_dir / "jobs" / job.id
        paths = [Path(directory) for directory in job.directories]
        return [path for path in paths if path.parent == home and not path.is_symlink()]

    def _paths(self, job: FinishedJob, kind: PruneKind, directory: Path) -> Iterator[Path]:
        if kind is PruneKind.LOGS:
            yield directory / LOG_NAME
        elif kind is PruneKind.CACHES:
            yield directory / _CACHE
        elif kind is PruneKind.CHECKPOINTS:
            yield from _spare_checkpoints(directory / "output", job)

    def _item(self, job: FinishedJob, kind: PruneKind, path: Path) -> PruneItem:
        return PruneItem(
            kind=kind,
            job_id=job.id,
            job_number=job.number,
            user=job.user,
            path=str(path.relative_to(self._state_dir)),
            bytes=measure(path),
        )

    def wandb_runs(self, ended: set[str], before: float) -> Iterator[PruneItem]:
        """Local copies of runs that W&B has all of; never those that were kept offline."""
        folder = self._state_dir / "wandb" / "wandb"
        for name in _names(folder):
            run = _WANDB_RUN.fullmatch(name)
            path = folder / name
            if run and run[1] in ended and _is_older(path, before):
                relative = str(path.relative_to(self._state_dir))
                yield PruneItem(kind=PruneKind.CACHES, path=relative, bytes=measure(path))


def _is_older(folder: Path, before: float) -> bool:
    try:
        return folder.is_dir() and folder.lstat().st_mtime < before
    except OSError:  # somebody has removed it
        return False


def _spare_checkpoints(output: Path, job: FinishedJob) -> Iterator[Path]:
    """A result is never spare, and nor is what a retry of a job that did not complete needs."""
    if output.is_symlink():
        return
    numbered = [(int(n[1]), output / n[0]) for name in _names(output) if (n := _match(name))]
    whole = [path for _, path in sorted(numbered) if (path / "trainer_state.json").is_file()]
    kept = set() if job.state == "completed" else set(whole[-_KEPT:])
    for _, path in sorted(numbered):
        if path not in kept and str(path) != job.result:
            yield path


def _match(name: str) -> re.Match[str] | None:
    return _CHECKPOINT.fullmatch(name)


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
