"""Puts together what the Vertesia dialect stands on."""

from __future__ import annotations

from training_cluster.daemon.datasets import DatasetParts
from training_cluster.ports import Clock
from training_cluster.services.disk import Disk
from training_cluster.services.interaction_runs import InteractionRuns
from training_cluster.services.interactions import Interactions
from training_cluster.services.jobs import Jobs
from training_cluster.services.model_names import ModelNames
from training_cluster.services.session_trainings import SessionTrainings
from training_cluster.services.training_sessions import TrainingSessions
from training_cluster.settings import Settings
from training_cluster.store.database import Database


def interactions(
    settings: Settings,
    database: Database,
    clock: Clock,
    models: ModelNames,
    datasets: DatasetParts,
    jobs: Jobs,
    disk: Disk,
) -> Interactions:
    """Runs, sessions and trainings."""
    sessions = TrainingSessions(database, clock, models.resolve)
    return Interactions(
        InteractionRuns(database, clock, disk.require_room),
        sessions,
        SessionTrainings(
            sessions, datasets.service, datasets.uploads, datasets.choice.folders, jobs
        ),
        settings.limits.sync_seconds,
    )
