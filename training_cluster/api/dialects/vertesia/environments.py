"""Vertesia's environments: where trainings run here."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Response

from training_cluster.api.auth import Caller
from training_cluster.api.dialects.vertesia import render, views
from training_cluster.api.dialects.vertesia.views import ANYWHERE, EnvironmentView, shown
from training_cluster.api.late_routes import LateRouter
from training_cluster.api.services import Daemon, answer
from training_cluster.domain.session_errors import EnvironmentNotFound

router = LateRouter(prefix="/api/v1/environments", tags=["vertesia"], responses=ANYWHERE)


@router.get(
    "",
    summary="List where trainings can run",
    responses=shown(list[EnvironmentView], [views.ENVIRONMENT]),
)
async def list_environments(daemon: Daemon, caller: Caller) -> Response:
    """The engines of this daemon; `local` is this machine's devices."""
    return answer([render.environment(each) for each in daemon.interactions.sessions.environments])


@router.get(
    "/{environment_id}",
    summary="Look at one environment",
    responses=shown(EnvironmentView, views.ENVIRONMENT, EnvironmentNotFound),
)
async def get_environment(
    environment_id: Annotated[str, Path(max_length=256)], daemon: Daemon, caller: Caller
) -> Response:
    """By id."""
    return answer(render.environment(daemon.interactions.sessions.known(environment_id)))
