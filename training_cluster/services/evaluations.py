"""Evaluations: a job has base and tuned model answer prompts, and its answers are read here."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training_cluster.domain.errors import ModelNotFound
from training_cluster.domain.job import Job
from training_cluster.domain.model import Model
from training_cluster.domain.principal import Principal
from training_cluster.domain.spec import EVALUATE
from training_cluster.services.model_jobs import ModelJobs, Place
from training_cluster.services.models import Models
from training_cluster.store import model_jobs, models
from training_cluster.store.database import Database


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An evaluation job and, once it has completed, its answers: `[{input, outputs: [{model_name,
    output}]}]`; None before, or when its files are gone."""

    job: Job
    answers: Sequence[Mapping[str, Any]] | None


class Evaluations:
    """Asked for by the job that trained a model; by the model itself see `ModelJobs.evaluate`."""

    def __init__(self, database: Database, registry: Models, tasks: ModelJobs) -> None:
        self._database = database
        self._models = registry
        self._tasks = tasks

    async def ask(
        self,
        job: Job,
        prompts: Sequence[str] | None = None,
        *,
        by: Principal,
        place: Place | None = None,
    ) -> Job:
        """Queue an evaluation of the model a job has left; without `prompts` the first rows of its
        dataset's validation file, or of the dataset, are asked. Raises ModelNotFound when the job
        has left no model, Pruned, Forbidden, and what submitting raises."""
        model = await self._models.by_job(job.id)
        if model is None:
            raise ModelNotFound(f"job {job.number} has left no model to evaluate")
        asked = await self._tasks.evaluate(model.id, by, prompts=prompts, place=place)
        return asked.job

    async def result(self, job: Job) -> Evaluation | None:
        """What an evaluation job has found; of a training job the latest evaluation of its model,
        None when there was none."""
        found = await self._database.read(lambda c: _evaluation(c, job))
        if found is None:
            return None
        path = (found.result or {}).get("path")
        answers = None if path is None else await asyncio.to_thread(_read, Path(path))
        return Evaluation(found, answers)


def _evaluation(connection: sqlite3.Connection, job: Job) -> Job | None:
    if job.spec.kind == EVALUATE:
        return job
    model: Model | None = models.by_job(connection, job.id)
    return None if model is None else model_jobs.latest(connection, model.id, EVALUATE)


def _read(path: Path) -> Sequence[Mapping[str, Any]] | None:
    try:
        answers = json.loads(path.read_bytes())["answers"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    return answers if isinstance(answers, list) else None
