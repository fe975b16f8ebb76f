"""Vertesia's runs: here interactions are recorded, not executed."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Body, Path, Query, Request, Response

from training_cluster.api.auth import Caller, Submitter
from training_cluster.api.dialects.vertesia import render, views
from training_cluster.api.dialects.vertesia.requests import Line, RunRequest, RunsRequest
from training_cluster.api.dialects.vertesia.sessions import Limit, Offset
from training_cluster.api.dialects.vertesia.views import ANYWHERE, RunRefView, RunView, shown
from training_cluster.api.late_routes import LateRouter
from training_cluster.api.services import Daemon, Services, answer
from training_cluster.api.strict_json import StrictJsonRoute
from training_cluster.domain.errors import StorageFull
from training_cluster.domain.interaction import InteractionRun, InteractionStatus
from training_cluster.domain.session_errors import RunNotFound
from training_cluster.services.interaction_runs import NewRun, RunFilter

router = LateRouter(
    prefix="/api/v1/runs", route_class=StrictJsonRoute, tags=["vertesia"], responses=ANYWHERE
)

_MOST_VALUES = 100
Values = Annotated[list[Line] | None, Query(max_length=_MOST_VALUES)]
_REQUESTS: dict[str, Any] = {
    "one": {"value": views.RUN_REQUEST},
    "many": {"value": [views.RUN_REQUEST]},
}


@router.post(
    "",
    summary="Record one interaction, or many",
    responses=shown(RunView | list[RunView], views.RUN, StorageFull),
)
async def record_runs(
    body: Annotated[RunsRequest, Body(openapi_examples=_REQUESTS)],
    request: Request,
    daemon: Daemon,
    caller: Submitter,
) -> Response:
    """What a model was asked and what it answered, for a session to train on. One JSON object
    records one run and is answered with it, a list records all of them or none."""
    many = body if isinstance(body, list) else [body]
    client_ip = request.client.host if request.client else ""
    new = [_new(each, daemon, client_ip) for each in many]
    made = [_full(run, daemon) for run in await daemon.interactions.runs.record(new, caller)]
    return answer(made if isinstance(body, list) else made[0])


def _new(asked: RunRequest, daemon: Services, client_ip: str) -> NewRun:
    sessions = daemon.interactions.sessions
    where = asked.asked_environment or sessions.environments[0].id
    _, warnings = sessions.environment(where[:256])
    return asked.to_run(where[:256], warnings, client_ip=client_ip)


@router.get(
    "",
    summary="List recorded interactions, newest first",
    responses=shown(list[RunRefView], [views.RUN_REF]),
)
async def list_runs(
    daemon: Daemon,
    caller: Caller,
    limit: Limit = 100,
    offset: Offset = 0,
    interaction: Values = None,
    status: Annotated[list[InteractionStatus] | None, Query(max_length=_MOST_VALUES)] = None,
    model: Values = None,
    environment: Values = None,
    tag: Values = None,
) -> Response:
    """One's own; administrators see everybody's. A filter may be said several times: runs that
    have one of the values."""
    wanted = RunFilter(
        interaction=interaction or (),
        status=status or (),
        model=model or (),
        environment=environment or (),
        tag=tag or (),
    )
    found = await daemon.interactions.runs.page(wanted, caller, limit=limit, offset=offset)
    sessions = daemon.interactions.sessions
    return answer([render.run(each, sessions.environment(each.environment)[0]) for each in found])


@router.get(
    "/{run_id}",
    summary="Look at a recorded interaction",
    responses=shown(RunView, views.RUN, RunNotFound),
)
async def get_run(
    run_id: Annotated[str, Path(max_length=64)], daemon: Daemon, caller: Caller
) -> Response:
    """With what was asked and answered. Those of others do not exist."""
    return answer(_full(await daemon.interactions.runs.get(run_id, caller), daemon))


def _full(found: InteractionRun, daemon: Services) -> dict[str, Any]:
    return render.run_in_full(found, daemon.interactions.sessions.environment(found.environment)[0])
