"""What the Vertesia dialect stands on: recorded runs, the sessions that collect them, and what is
trained in those."""

from __future__ import annotations

from dataclasses import dataclass

from training_cluster.services.interaction_runs import InteractionRuns
from training_cluster.services.session_trainings import SessionTrainings
from training_cluster.services.training_sessions import TrainingSessions


@dataclass(frozen=True, slots=True)
class Interactions:
    """The services of one daemon. Who waits for the end of a job is answered after `sync_seconds`
    at the latest."""

    runs: InteractionRuns
    sessions: TrainingSessions
    trainings: SessionTrainings
    sync_seconds: float
