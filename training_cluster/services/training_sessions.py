"""Training sessions: begin one, collect runs in it, look at it.

Everybody sees that a session exists and how it does, as with jobs; what is in it, and changing it,
is for its owner and admins.
"""

from __future__ import annotations

import asyncio
import functools
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from training_cluster.domain.errors import FieldProblem, ModelNotAllowed
from training_cluster.domain.ids import new_job_id
from training_cluster.domain.interaction import InteractionRun
from training_cluster.domain.principal import Principal
from training_cluster.domain.session_errors import EnvironmentNotFound, SessionNotReady
from training_cluster.domain.training_session import (
    LOCAL,
    Environment,
    SessionStatus,
    TrainingSession,
)
from training_cluster.ports import Clock
from training_cluster.store import listed_trainings
from training_cluster.store import training_sessions as store
from training_cluster.store.database import Database

log = structlog.get_logger(__name__)

_RUNS_AT_ONCE = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSession:
    """A session somebody begins. `environment` is where its trainings are to run, by id, `model`
    what they begin from, `options` are fields of the native API for them; `warnings` are sentences
    about the request."""

    name: str
    environment: str
    model: str
    options: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class TrainingSessions:
    """The sessions. Methods that take `by`, who asks, raise Forbidden for a session of somebody
    else; all raise SessionNotFound. `resolve_model` raises ModelNotAllowed."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        resolve_model: Callable[[str], object],
        environments: Sequence[Environment] = (LOCAL,),
    ) -> None:
        self._database = database
        self._clock = clock
        self._resolve_model = resolve_model
        self.environments = tuple(environments)

    def known(self, environment_id: str) -> Environment:
        """An environment by id. Raises EnvironmentNotFound."""
        for each in self.environments:
            if each.id == environment_id:
                return each
        hint = "GET /api/v1/environments lists them"
        raise EnvironmentNotFound(f"there is no environment {environment_id!r}", hint=hint)

    def environment(self, asked: str) -> tuple[Environment, tuple[str, ...]]:
        """Where trainings run that were asked for somewhere, and what to say of it: an id that
        only another server knows means the first environment."""
        try:
            return self.known(asked), ()
        except EnvironmentNotFound:
            first = self.environments[0]
            return first, (f"there is no environment {asked!r} here: trainings run in {first.id}",)

    async def create(self, new: NewSession, by: Principal) -> TrainingSession:
        """Begin a session of `by`'s. Raises ModelNotAllowed."""
        await asyncio.to_thread(self._check_model, new.model)
        environment, warnings = self.environment(new.environment)
        now = self._clock.now()
        session = TrainingSession(
            id=new_job_id(now),
            number=0,
            user=by.name,
            name=new.name,
            environment=environment.id,
            model=new.model,
            status=SessionStatus.CREATED,
            created_at=now,
            updated_at=now,
            updated_by=by.name,
            options=new.options,
            warnings=(*new.warnings, *warnings),
        )

        def change(connection: sqlite3.Connection) -> TrainingSession:
            store.insert(connection, session)
            return store.find(connection, session.id)

        made = await self._database.write(change)
        log.info("session", action="session.created", session=made.id, user=by.name)
        return made

    def _check_model(self, name: str) -> None:
        try:
            self._resolve_model(name)
        except ModelNotAllowed as error:
            said = tuple(FieldProblem("model", p.message, p.expected) for p in error.problems)
            raise ModelNotAllowed(error.message, problems=said, hint=error.hint) from error

    async def get(self, session_id: str) -> TrainingSession:
        """One session, with the ids of its runs."""
        return await self._database.read(lambda c: listed_trainings.find(c, session_id))

    async def page(
        self, *, status: SessionStatus | None = None, limit: int, offset: int = 0
    ) -> list[TrainingSession]:
        """Sessions, newest first, without their runs; a training that another API asked for is a
        session of its own."""
        return await self._database.read(lambda c: listed_trainings.page(c, status, limit, offset))

    async def owned(self, session_id: str, by: Principal) -> TrainingSession:
        """A session that `by` may change. Raises SessionNotReady for what only stands for a job."""
        return await self._database.read(lambda c: _own(c, session_id, by))

    async def add_runs(self, session_id: str, run_ids: Sequence[str], by: Principal) -> None:
        """Put runs into a session, all or none; those that are in it already stay. Raises
        RunNotFound for one that is not there or is somebody else's."""
        now, of_user = self._clock.now(), None if by.is_admin else by.name

        def change(connection: sqlite3.Connection) -> None:
            session = _own(connection, session_id, by)
            store.add_runs(connection, session, run_ids, of_user)
            store.touch(connection, session, by.name, now)

        await self._database.write(change)

    async def runs(
        self, session_id: str, by: Principal, *, limit: int, offset: int = 0
    ) -> list[InteractionRun]:
        """What is in a session, in the order in which it was added."""
        return await self._database.read(
            lambda c: store.runs(c, _find(c, session_id, by), limit, offset)
        )

    async def all_runs(self, session: TrainingSession) -> AsyncIterator[InteractionRun]:
        """Every run of a session in the order in which it was added, a few at a time."""
        position = 0
        while True:
            found, position = await self._database.read(
                functools.partial(
                    store.runs_behind, session=session, position=position, limit=_RUNS_AT_ONCE
                )
            )
            for run in found:
                yield run
            if len(found) < _RUNS_AT_ONCE:
                return

    async def built(self, session: TrainingSession) -> str | None:
        """The id of the dataset that was last made of a session's runs."""
        return await self._database.read(lambda c: store.built(c, session))

    async def awaited_upload(self, session: TrainingSession) -> str | None:
        """The id of the upload that was last begun for a session."""
        return await self._database.read(lambda c: store.awaited_upload(c, session))

    async def choose(
        self, session: TrainingSession, dataset: str, by: Principal, *, is_folder: bool = False
    ) -> TrainingSession:
        """Have a session train on a dataset, by id, or a version that is registered in a
        folder."""
        now = self._clock.now()

        def change(connection: sqlite3.Connection) -> TrainingSession:
            store.choose(connection, session, dataset, now, is_folder=is_folder)
            store.touch(connection, session, by.name, now)
            return store.find(connection, session.id)

        return await self._database.write(change)


def _find(connection: sqlite3.Connection, session_id: str, by: Principal) -> TrainingSession:
    session = listed_trainings.find(connection, session_id)
    by.require_ownership(session.user, f"session {session.name!r}")
    return session


def _own(connection: sqlite3.Connection, session_id: str, by: Principal) -> TrainingSession:
    session = _find(connection, session_id, by)
    if not session.is_own:
        raise SessionNotReady(
            f"training {session.name!r} was asked for by another API: it is no session to work in",
            hint="POST /api/v1/training begins one; `cancel` is possible with this one, too",
        )
    return session
