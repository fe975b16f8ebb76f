"""Vertesia's training sessions: begin one, list them, put runs in, look.

Lists are pages by limit and offset: sessions newest first, runs as they were added.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Body, Path, Query, Response
from fastapi.openapi.models import Example

from training_cluster.api.auth import Caller, Submitter
from training_cluster.api.dialects.vertesia import render, views
from training_cluster.api.dialects.vertesia.requests import AddRequest, SessionRequest
from training_cluster.api.dialects.vertesia.views import (
    ANYWHERE,
    NameView,
    OkView,
    RunRefView,
    SessionRefView,
    SessionView,
    shown,
)
from training_cluster.api.late_routes import LateRouter
from training_cluster.api.services import Daemon, Services, answer
from training_cluster.api.strict_json import StrictJsonRoute
from training_cluster.domain.errors import (
    Forbidden,
    ModelNotAllowed,
    StorageFull,
)
from training_cluster.domain.principal import Principal
from training_cluster.domain.session_errors import RunNotFound, SessionNotFound
from training_cluster.domain.training_session import SessionStatus, TrainingSession

router = LateRouter(
    prefix="/api/v1/training", route_class=StrictJsonRoute, tags=["vertesia"], responses=ANYWHERE
)

SessionId = Annotated[str, Path(max_length=64)]
_BEGUN: dict[str, Example] = {"session": {"value": views.SESSION_REQUEST}}
_ADDED: dict[str, Example] = {"runs": {"value": {"runs": [views.RUN_ID]}}}
Limit = Annotated[int, Query(ge=1, le=1000, description="The most to answer with.")]
Offset = Annotated[int, Query(ge=0, le=2**31, description="So many are skipped.")]
Status = Annotated[SessionStatus | None, Query(description="Only sessions in this state.")]


@router.post(
    "",
    summary="Begin a training session",
    responses=shown(SessionView, views.SESSION, ModelNotAllowed, StorageFull),
)
async def create_session(
    body: Annotated[SessionRequest, Body(openapi_examples=_BEGUN)],
    daemon: Daemon,
    caller: Submitter,
) -> Response:
    """Nothing is trained yet: add runs, `build` them into a dataset, then `start`."""
    made = await daemon.interactions.sessions.create(body.to_session(), caller)
    return answer(_view(made, daemon, caller))


@router.get(
    "",
    summary="List training sessions, newest first",
    responses=shown(list[SessionRefView], [views.SESSION_REF]),
)
async def list_sessions(
    daemon: Daemon,
    caller: Caller,
    limit: Limit = 100,
    offset: Offset = 0,
    status: Status = None,
) -> Response:
    """Everybody's, without their runs. A training that was asked for by another API is a session
    of its own, with the job's id."""
    found = await daemon.interactions.sessions.page(status=status, limit=limit, offset=offset)
    return answer([_view(each, daemon, caller, with_runs=False) for each in found])


@router.get(
    "/names",
    summary="List what training sessions are called",
    responses=shown(list[NameView], [{"id": views.SESSION_ID, "name": "support answers"}]),
)
async def list_names(
    daemon: Daemon,
    caller: Caller,
    limit: Limit = 100,
    offset: Offset = 0,
    status: Status = None,
) -> Response:
    """The same sessions in the same order as the list, with id and name only."""
    found = await daemon.interactions.sessions.page(status=status, limit=limit, offset=offset)
    return answer([{"id": each.id, "name": each.name} for each in found])


@router.get(
    "/{session_id}",
    summary="Look at a training session",
    responses=shown(SessionView, views.SESSION, SessionNotFound),
)
async def get_session(session_id: SessionId, daemon: Daemon, caller: Caller) -> Response:
    """With the ids of its runs, in the order in which they were added."""
    return answer(_view(await daemon.interactions.sessions.get(session_id), daemon, caller))


@router.post(
    "/{session_id}/add",
    summary="Add runs to a training session",
    responses=shown(OkView, {"ok": True}, SessionNotFound, RunNotFound, Forbidden),
)
async def add_runs(
    session_id: SessionId,
    body: Annotated[AddRequest, Body(openapi_examples=_ADDED)],
    daemon: Daemon,
    caller: Submitter,
) -> Response:
    """All of them or none. A run that is in the session already stays where it is."""
    await daemon.interactions.sessions.add_runs(session_id, body.runs, caller)
    return answer({"ok": True})


@router.get(
    "/{session_id}/runs",
    summary="List the runs of a training session",
    responses=shown(list[RunRefView], [views.RUN_REF], SessionNotFound, Forbidden),
)
async def list_runs(
    session_id: SessionId, daemon: Daemon, caller: Caller, limit: Limit = 100, offset: Offset = 0
) -> Response:
    """In the order in which they were added; for the session's owner and admins."""
    sessions = daemon.interactions.sessions
    found = await sessions.runs(session_id, caller, limit=limit, offset=offset)
    return answer([render.run(each, sessions.environment(each.environment)[0]) for each in found])


def _view(
    found: TrainingSession, daemon: Services, caller: Principal, *, with_runs: bool = True
) -> dict[str, Any]:
    where, _ = daemon.interactions.sessions.environment(found.environment)
    return render.session(found, where, caller, with_runs=with_runs)
