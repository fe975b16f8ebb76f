"""Finds what a job's next attempt goes on from: the last complete checkpoint of earlier ones."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from training_cluster.domain.job import Attempt, Checkpoint, Job, Outcome
from training_cluster.domain.spec import JobSpec
from training_cluster.ports import Trainer
from training_cluster.store import attempts
from training_cluster.store.attempts import Claimed
from training_cluster.store.database import Database

# an attempt that failed so before its first step may have choked on its checkpoint
_CHOKED = frozenset({Outcome.TRAINER_ERROR, Outcome.MODEL_UNAVAILABLE})


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an attempt begins: at `checkpoint`, None for the start, after `elapsed_seconds` of
    training. `expected_step` is how far the store thought the job was saved."""

    checkpoint: Checkpoint | None = None
    elapsed_seconds: float = 0.0
    expected_step: int = 0


class Checkpoints:
    """Looks at the disk each time: what was saved once may be gone or torn by now."""

    def __init__(self, database: Database, trainer: Trainer) -> None:
        self._database = database
        self._trainer = trainer

    async def origin(self, job: Job) -> Origin:
        """Where the next attempt of a job begins; `job` as it was before its claim."""
        if job.attempt_number == 0:
            return Origin()

        def read(connection: sqlite3.Connection) -> tuple[list[Attempt], int]:
            known = attempts.of_job(connection, job.number)
            return known, attempts.reached(connection, job)

        known, expected = await self._database.read(read)
        earlier = [a for a in known if job.begins_after < a.ref.number and a.ended_at is not None]
        found = await asyncio.to_thread(self._furthest, job.spec, earlier)
        if found is None:
            return Origin(expected_step=expected)
        elapsed = (job.progress and job.progress.elapsed_seconds) or 0.0
        return Origin(found, elapsed, expected)

    def _furthest(self, spec: JobSpec, earlier: Sequence[Attempt]) -> Checkpoint | None:
        useless = {a.resumed_from.path for a in earlier if a.resumed_from and _choked(a)}
        found = [self._trainer.checkpoint(spec, Path(a.directory), useless) for a in earlier]
        return max((c for c in found if c is not None), key=lambda c: c.step, default=None)

    async def record(self, claimed: Claimed, origin: Origin, now: float) -> None:
        """Put into the store where a claimed attempt begins, and say so if that is not where it
        was to begin."""
        reached = origin.checkpoint.step if origin.checkpoint else 0

        def change(connection: sqlite3.Connection) -> None:
            attempts.go_on(connection, claimed, origin.checkpoint, origin.elapsed_seconds)
            if reached < origin.expected_step:
                message = _loss(origin.expected_step, reached)
                attempts.forget_checkpoints(connection, claimed, reached, message, now)

        if origin.checkpoint is not None or origin.expected_step:
            await self._database.write(change)


def _choked(attempt: Attempt) -> bool:
    return attempt.outcome in _CHOKED and attempt.log_offset == 0


def _loss(expected: int, found: int) -> str:
    where = f"step {found}, the last complete checkpoint before it" if found else "the start"
    return (
        f"the checkpoint at step {expected} is gone, torn or of no use to the trainer: the job "
        f"goes on from {where}"
    )
