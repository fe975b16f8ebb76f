"""Records what models were asked and what they answered, for sessions to train on.

A run holds what somebody wrote: it is its recorder's, and for others, admins aside, not there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from training_cluster.domain.ids import new_job_id
from training_cluster.domain.interaction import InteractionRun, InteractionStatus, Message
from training_cluster.domain.principal import Principal
from training_cluster.ports import Clock
from training_cluster.store import interaction_runs
from training_cluster.store.database import Database
from training_cluster.store.interaction_runs import RunFilter


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """An interaction to record; the fields are InteractionRun's."""

    interaction: str
    environment: str
    model: str | None
    status: InteractionStatus
    messages: Sequence[Message]
    output: str | None
    details: Mapping[str, Any] = field(default_factory=dict)


class InteractionRuns:
    """The recorded runs. `require_room` raises StorageFull while the disk is full."""

    def __init__(
        self, database: Database, clock: Clock, require_room: Callable[[], None] = lambda: None
    ) -> None:
        self._database = database
        self._clock = clock
        self._require_room = require_room

    async def record(self, new: Sequence[NewRun], by: Principal) -> list[InteractionRun]:
        """Keep runs, all of them or none; they are `by`'s. Raises StorageFull."""
        self._require_room()
        runs = [self._made(each, by) for each in new]
        await self._database.write(lambda c: interaction_runs.insert(c, runs))
        return runs

    def _made(self, new: NewRun, by: Principal) -> InteractionRun:
        now = self._clock.now()
        return InteractionRun(
            id=new_job_id(now),
            user=by.name,
            interaction=new.interaction,
            environment=new.environment,
            model=new.model,
            status=new.status,
            messages=new.messages,
            output=new.output,
            created_at=now,
            details=new.details,
        )

    async def get(self, run_id: str, by: Principal) -> InteractionRun:
        """A run that `by` may see. Raises RunNotFound."""
        user = None if by.is_admin else by.name
        return await self._database.read(lambda c: interaction_runs.find(c, run_id, user))

    async def page(
        self, wanted: RunFilter, by: Principal, *, limit: int, offset: int = 0
    ) -> list[InteractionRun]:
        """Runs that `by` may see, newest first."""
        seen = wanted if by.is_admin else replace(wanted, user=by.name)
        return await self._database.read(lambda c: interaction_runs.page(c, seen, limit, offset))


__all__ = ["InteractionRuns", "NewRun", "RunFilter"]
