"""What people do with models: look, name, open to others, delete."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import IO, Any

import structlog

from training_cluster.crash_points import crash_point
from training_cluster.domain.errors import (
    FieldProblem,
    InvalidRequest,
    ModelInUse,
    ModelNotFound,
    Pruned,
)
from training_cluster.domain.event import EventType
from training_cluster.domain.model import Model, ModelKind, is_version, label
from training_cluster.domain.principal import Principal
from training_cluster.ports import Clock
from training_cluster.services.model_archive import Archive, archive_of, card_of, file_of
from training_cluster.services.removal import measure, remove
from training_cluster.store import events, models, pruning
from training_cluster.store.database import Database

log = structlog.get_logger(__name__)

LAST = models.LAST


class Models:
    """The registry. A model is named by number, id, `name@version`, `name@alias`, or by its name
    alone, which means the newest; methods raise ModelNotFound, and Pruned for a deleted one.

    `by` is who asks: they raise Forbidden for a model of somebody else."""

    def __init__(self, database: Database, clock: Clock, state_dir: Path) -> None:
        self._database = database
        self._clock = clock
        self._state_dir = state_dir

    async def get(self, key: str, *, with_deleted: bool = False) -> Model:
        """One model; `with_deleted` gives the record that is left of one, too."""
        return await self._database.read(lambda c: find(c, key, with_deleted=with_deleted))

    async def usable(self, key: str, by: Principal) -> Model:
        """A model whose files `by` may read: one's own, a public one, any for an admin."""
        model = await self.get(key)
        require_use(model, by)
        return model

    async def archive(self, key: str, by: Principal) -> Archive:
        """A zip of a model's files, with its card."""
        model = await self.usable(key, by)
        return await asyncio.to_thread(archive_of, model)

    async def file(self, key: str, name: str, by: Principal) -> IO[bytes]:
        """One file of a model, opened for whoever closes it. Raises NotFound."""
        model = await self.usable(key, by)
        return await asyncio.to_thread(file_of, model, name)

    async def card(self, key: str, by: Principal) -> str:
        """A model's card in Markdown: what the trainer wrote, and where the model comes from."""
        model = await self.usable(key, by)
        return await asyncio.to_thread(card_of, model)

    async def by_job(self, job_id: str) -> Model | None:
        """The model a job left, deleted or not; None when it left none."""
        return await self._database.read(lambda c: models.by_job(c, job_id))

    async def page(
        self,
        *,
        name: str | None = None,
        user: str | None = None,
        kind: ModelKind | None = None,
        with_deleted: bool = False,
        before: int = LAST,
        limit: int,
    ) -> list[Model]:
        """Models with a number below `before`, newest first."""
        return await self._database.read(
            lambda c: models.page(
                c,
                name=name,
                user=user,
                kind=kind,
                with_deleted=with_deleted,
                before=before,
                limit=limit,
            )
        )

    async def set_alias(self, name: str, alias: str, version: str, by: Principal) -> Model:
        """Have `name@alias` mean a version of a model from now on. Raises InvalidRequest for an
        alias that could be taken for a version."""
        _check_alias(alias)
        now = self._clock.now()

        def change(connection: sqlite3.Connection) -> Model:
            model = find(connection, f"{name}@{version}")
            by.require_ownership(model.user, f"model {model.key}")
            models.set_alias(connection, model, alias, by.name, now)
            self._tell(connection, EventType.MODEL_ALIASED, model, by, alias=alias)
            return models.find(connection, model.id)

        return await self._database.write(change)

    async def drop_alias(self, name: str, alias: str, by: Principal) -> Model:
        """Forget an alias; returns the model it meant. Raises ModelNotFound without one."""

        def change(connection: sqlite3.Connection) -> Model:
            model = models.find(connection, f"{name}@{alias}")
            by.require_ownership(model.user, f"model {model.key}")
            if not models.drop_alias(connection, model.name, alias):
                raise ModelNotFound(f"{name} has no alias {alias!r}")
            self._tell(connection, EventType.MODEL_ALIASED, model, by, alias=alias, dropped=True)
            return models.find(connection, model.id)

        return await self._database.write(change)

    async def set_public(self, key: str, by: Principal, *, is_public: bool) -> Model:
        """Let everybody read and use a model's files, or its owner and admins only."""

        def change(connection: sqlite3.Connection) -> Model:
            model = find(connection, key)
            by.require_ownership(model.user, f"model {model.key}")
            models.set_public(connection, model, is_public=is_public)
            return replace(model, is_public=is_public)

        return await self._database.write(change)

    async def delete(self, key: str, by: Principal) -> Model:
        """Remove a model's files; its record stays. Raises ModelInUse while a job that is not over
        uses it."""
        model = await self.get(key)
        freed = await asyncio.to_thread(measure, Path(model.path))

        def change(connection: sqlite3.Connection) -> Model:
            found = find(connection, model.id)
            by.require_ownership(found.user, f"model {found.key}")
            _refuse_used(connection, found)
            self._bury(connection, found, by, freed)
            return models.find(connection, found.id)

        gone = await self._database.write(change)
        crash_point("model.deleted")
        await self._remove_files(gone)
        log.info("model deleted", action="model.deleted", model=gone.key, bytes=freed)
        return gone

    def _bury(
        self, connection: sqlite3.Connection, model: Model, by: Principal, freed: int
    ) -> None:
        now = self._clock.now()
        models.bury(connection, model, now)
        pruning.mark(connection, model.job_number, "results", now, freed)
        self._tell(connection, EventType.MODEL_DELETED, model, by, bytes=freed)

    async def sweep(self) -> None:
        """Remove the files of deleted models that a predecessor did not come to remove."""
        for model in await self._database.read(models.buried):
            await self._remove_files(model)

    async def _remove_files(self, model: Model) -> None:
        try:
            await asyncio.to_thread(self._remove, model)
        except (OSError, ValueError) as error:
            log.warning("not removed", action="model.left", path=model.path, error=str(error))
            return
        crash_point("model.removed")
        now = self._clock.now()
        await self._database.write(lambda c: models.mark_gone(c, model, now))

    def _remove(self, model: Model) -> None:
        """The whole output of the attempt, with its checkpoints, where it lies where ours lie."""
        home = self._state_dir / "jobs" / model.job_id / f"attempt-{model.attempt}" / "output"
        if Path(model.path) != home and home not in Path(model.path).parents:
            raise ValueError(f"{model.path} is not below {home}")
        remove(self._state_dir, PurePath(home.relative_to(self._state_dir)))

    def _tell(
        self,
        connection: sqlite3.Connection,
        kind: EventType,
        model: Model,
        by: Principal,
        **data: Any,
    ) -> None:
        told = {"model": model.key, "model_id": model.id, "by": by.name, **data}
        job = model.job_number if pruning.known(connection, {model.job_id}) else None
        events.append(connection, self._clock.now(), kind, job, None, told)


def find(connection: sqlite3.Connection, key: str, *, with_deleted: bool = False) -> Model:
    """A model whose files are there. Raises ModelNotFound, and Pruned for a deleted one."""
    model = models.find(connection, key)
    if model.deleted_at is not None and not with_deleted:
        raise Pruned(f"model {model.key} was deleted", hint="its job can be submitted again")
    return model


def require_use(model: Model, by: Principal) -> None:
    """Raise Forbidden unless `by` may read and use a model's files."""
    if not model.is_public:
        by.require_ownership(model.user, f"model {model.key}")


def _refuse_used(connection: sqlite3.Connection, model: Model) -> None:
    used: Sequence[int] = models.users(connection, model)
    if used:
        named = ", ".join(map(str, used[:4]))
        raise ModelInUse(
            f"model {model.key} is used by job {named}",
            hint="cancel it, or wait until it is over",
        )
    based = models.based_on(connection, model)
    if based:
        raise ModelInUse(
            f"model {model.key} is what {', '.join(based[:4])} is put on",
            hint="delete that first, or export it to have all weights in one",
        )


def _check_alias(alias: str) -> None:
    if label(alias) != alias or is_version(alias):
        expected = "letters, digits, '.', '_', '+' and '-', not in the form of a version such as v2"
        problem = FieldProblem("alias", f"{alias!r} cannot be an alias", expected)
        raise InvalidRequest(problem.message, problems=(problem,))
