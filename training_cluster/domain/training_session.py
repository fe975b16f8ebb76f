"""A training session: runs are collected in it, made into a dataset, and trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from training_cluster.domain.job import Job


class SessionStatus(StrEnum):
    """What the session's dataset and its newest job amount to: derived, never stored."""

    CREATED = "created"  # no dataset yet
    BUILDING = "building"  # its dataset is being checked
    PREPARED = "prepared"  # a training can start
    PROCESSING = "processing"  # its job waits, runs or is paused
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"  # its job failed, or its dataset cannot be used


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSession:
    """A session of `user`'s. `dataset` names the dataset version it trains on, `job` is its newest,
    `trained` names the model that one has left.
    Times are Unix seconds.

    One that is not `is_own` stands for a job which another API has asked for, by the job's id: it
    has no runs, and nothing can be done with it but cancel. `options` are fields of the native API
    that its jobs have beside model and dataset; `run_ids` is empty in lists; `warnings` are
    sentences about what could not be honoured."""

    id: str
    number: int
    user: str
    name: str
    environment: str
    model: str
    status: SessionStatus
    created_at: float
    updated_at: float
    updated_by: str
    dataset: str | None = None
    dataset_id: str | None = None
    job: Job | None = None
    trained: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    run_ids: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    is_own: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Where trainings run: an engine of ours. `provider` says of what kind it is."""

    id: str
    name: str
    provider: str = "training-cluster"


LOCAL = Environment(id="local", name="this machine")
