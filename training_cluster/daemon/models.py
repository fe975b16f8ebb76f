"""Puts together what is about models: the registry, jobs that start from it, base models."""

from __future__ import annotations

import os

from training_cluster.daemon.choices import HUB_TOKENS
from training_cluster.domain.hub import hub_cache
from training_cluster.ports import Clock
from training_cluster.services.base_models import BaseModels
from training_cluster.services.download_tokens import DownloadTokens
from training_cluster.services.evaluations import Evaluations
from training_cluster.services.jobs import Jobs
from training_cluster.services.model_jobs import ModelJobs
from training_cluster.services.models import Models
from training_cluster.settings import Settings
from training_cluster.store.database import Database


class ModelParts:
    """Everything about models that the daemon has."""

    def __init__(self, settings: Settings, database: Database, clock: Clock, jobs: Jobs) -> None:
        self.registry = Models(database, clock, settings.state_dir)
        self.jobs = ModelJobs(jobs, self.registry)
        self.evaluations = Evaluations(database, self.registry, self.jobs)
        self.hub_tokens = DownloadTokens(settings.state_dir / HUB_TOKENS)
        hub, roots = hub_cache(os.environ), settings.model_roots
        self.bases = BaseModels(database, jobs, self.hub_tokens, hub=hub, roots=roots)

    async def start(self) -> None:
        """To be called before anybody can ask for anything."""
        await self.bases.start()
