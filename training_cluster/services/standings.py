"""How far jobs have come beyond their record: what they can go on from, how often they did."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from training_cluster.domain.job import Job, JobState
from training_cluster.store import attempts, models
from training_cluster.store.database import Database


@dataclass(frozen=True, slots=True)
class Standing:
    """Of one job: the `step` of the checkpoint it could go on from (0: none), how many of its
    attempts went on from one, and the key of the model it has made."""

    step: int = 0
    resumes: int = 0
    model_name: str | None = None


class Standings:
    """Asked for many jobs at once, as lists need it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, jobs: Sequence[Job]) -> dict[int, Standing]:
        """The standing of each job, by its number."""
        return await self._database.read(lambda c: {job.number: _standing(c, job) for job in jobs})


def _standing(connection: sqlite3.Connection, job: Job) -> Standing:
    if job.attempt_number == 0:
        return Standing()
    known = attempts.of_job(connection, job.number)
    model = models.by_job(connection, job.id) if job.state is JobState.COMPLETED else None
    return Standing(
        step=attempts.reached(connection, job),
        resumes=sum(attempt.resumed_from is not None for attempt in known),
        model_name=model.key if model and model.deleted_at is None else None,
    )
