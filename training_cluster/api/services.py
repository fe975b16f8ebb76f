"""What the routes work with: the services behind the app, reached through its state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import pydantic_core
from fastapi import Depends, Request, Response

from training_cluster.services.access_records import AccessRecords
from training_cluster.services.base_models import BaseModels
from training_cluster.services.curves import Curves
from training_cluster.services.datasets import Datasets
from training_cluster.services.devices import DeviceWatch
from training_cluster.services.evaluations import Evaluations
from training_cluster.services.health import Health
from training_cluster.services.history import History
from training_cluster.services.interactions import Interactions
from training_cluster.services.jobs import Jobs
from training_cluster.services.log_follow import LogFollow
from training_cluster.services.model_jobs import ModelJobs
from training_cluster.services.models import Models
from training_cluster.services.monitoring import Monitoring
from training_cluster.services.part_uploads import PartUploads
from training_cluster.services.queue import QueueView
from training_cluster.services.retention import Retention
from training_cluster.services.saved_checkpoints import SavedCheckpoints
from training_cluster.services.sessions import Sessions
from training_cluster.services.signed_urls import SignedUrls
from training_cluster.services.standings import Standings
from training_cluster.services.timeline import Timeline
from training_cluster.services.tokens import Tokens
from training_cluster.services.uploads import Uploads
from training_cluster.services.webhooks import Webhooks


@dataclass(frozen=True, slots=True)
class Services:
    """The running daemon as the API sees it."""

    jobs: Jobs
    queue: QueueView
    devices: DeviceWatch
    health: Health
    monitoring: Monitoring
    webhooks: Webhooks
    curves: Curves
    history: History
    logs: LogFollow
    retention: Retention
    tokens: Tokens
    sessions: Sessions
    records: AccessRecords
    timeline: Timeline
    checkpoints: SavedCheckpoints
    models: Models
    standings: Standings
    datasets: Datasets
    uploads: Uploads
    signed_urls: SignedUrls
    interactions: Interactions
    model_jobs: ModelJobs
    evaluations: Evaluations
    parts: PartUploads
    base_models: BaseModels


async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


Daemon = Annotated[Services, Depends(_services)]


def answer(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON response made by pydantic's serializer, several times faster than json.dumps."""
    body = pydantic_core.to_json(content, inf_nan_mode="null")
    return Response(body, status, headers, "application/json")
