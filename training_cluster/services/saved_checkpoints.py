"""The checkpoints of a job that lie on the disk, and what had been measured by then."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from training_cluster.domain.job import Attempt, Checkpoint, Job
from training_cluster.domain.spec import JobSpec
from training_cluster.ports import Trainer
from training_cluster.store import attempts, jobs, metric_lines
from training_cluster.store.database import Database

_MOST = 1000


@dataclass(frozen=True, slots=True)
class SavedCheckpoint:
    """A complete checkpoint and its folder. `saved_at` is Unix seconds; `values` are the metrics
    at its step."""

    step: int
    attempt: int
    saved_at: float
    path: Path
    values: Mapping[str, float]


class SavedCheckpoints:
    """Looks at the disk each time: checkpoints come while a job runs, and go when it is pruned."""

    def __init__(self, database: Database, trainer: Trainer) -> None:
        self._database = database
        self._trainer = trainer

    async def of(self, key: str) -> tuple[Job, list[SavedCheckpoint]]:
        """A job by id or number and its checkpoints, the furthest first. Raises JobNotFound."""

        def known(connection: sqlite3.Connection) -> tuple[Job, list[Attempt]]:
            job = jobs.find(connection, key)
            return job, attempts.of_job(connection, job.number)

        job, tried = await self._database.read(known)
        own = [each for each in tried if each.ref.number > job.begins_after]
        found = await asyncio.to_thread(self._on_disk, job.spec, own)

        def measured(connection: sqlite3.Connection) -> list[SavedCheckpoint]:
            return [
                SavedCheckpoint(step, *place, metric_lines.values_at(connection, job.number, step))
                for step, place in sorted(found.items(), reverse=True)
            ]

        return job, await self._database.read(measured)

    def _on_disk(
        self, spec: JobSpec, tried: Sequence[Attempt]
    ) -> dict[int, tuple[int, float, Path]]:
        """By step: attempt, time, folder; of two at one step that of the later attempt."""
        found: dict[int, tuple[int, float, Path]] = {}
        for attempt in tried:
            for checkpoint in self._of_attempt(spec, Path(attempt.directory)):
                try:
                    at = checkpoint.path.stat().st_mtime
                except OSError:
                    continue
                found[checkpoint.step] = (attempt.ref.number, at, checkpoint.path)
        return found

    def _of_attempt(self, spec: JobSpec, directory: Path) -> Iterator[Checkpoint]:
        known: set[Path] = set()
        while len(known) < _MOST:
            checkpoint = self._trainer.checkpoint(spec, directory, known)
            if checkpoint is None:
                return
            known.add(checkpoint.path)
            yield checkpoint
