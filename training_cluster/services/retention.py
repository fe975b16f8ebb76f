"""Removes what is no longer wanted: on request, and every hour what the settings let go.

Nothing of a job that is not over is touched. A result goes only when a request names results; the
settings never do. Files go on threads, rows in small transactions.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, Protocol

import structlog

from training_cluster.domain.event import EventType
from training_cluster.domain.ids import is_job_id
from training_cluster.domain.prune import PruneItem, PruneKind, PruneReport, PruneRequest
from training_cluster.ports import Clock
from training_cluster.services.handed_in import HandedIn
from training_cluster.services.loop import Loop
from training_cluster.services.prunable import TOMBSTONE, Prunable
from training_cluster.services.removal import remove
from training_cluster.store import events, models, pruning
from training_cluster.store.database import Database
from training_cluster.store.pruning import FinishedJob

log = structlog.get_logger(__name__)

_EVERY_SECONDS = 3600.0
_FIRST_SECONDS = 60.0
_PAGE = 200
_ROWS_AT_ONCE = 5000
_WHOLE = frozenset({PruneKind.JOBS, PruneKind.RESULTS})
_HANDED_IN = frozenset({PruneKind.DATASETS, PruneKind.UPLOADS})


class Secrets(Protocol):
    """Where addresses of webhooks lie."""

    async def remove(self, webhook_id: str) -> None:
        """Forget one."""
        ...


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """After how many seconds each kind goes by itself; a kind that is not there stays."""

    seconds: Mapping[PruneKind, float] = field(default_factory=dict)


class Retention(Loop):
    """Plans and carries out removals below one state directory, one at a time."""

    name = "retention"

    def __init__(
        self,
        database: Database,
        secrets: Secrets,
        clock: Clock,
        state_dir: Path,
        policy: RetentionPolicy,
        handed_in: HandedIn | None = None,
    ) -> None:
        super().__init__()
        self._database = database
        self._secrets = secrets
        self._clock = clock
        self._state_dir = state_dir
        self._policy = policy
        self._handed_in = handed_in
        self._found = Prunable(state_dir)
        self._one_at_a_time = asyncio.Lock()
        self._next_at = clock.monotonic() + _FIRST_SECONDS

    def delay(self) -> float | None:
        """A minute after the start, then every hour."""
        return max(0.0, self._next_at - self._clock.monotonic())

    async def run_once(self) -> None:
        """Remove what the settings let go."""
        if self._clock.monotonic() < self._next_at:
            return
        self._next_at = self._clock.monotonic() + _EVERY_SECONDS
        await self._bury()
        for kind, seconds in self._policy.seconds.items():
            request = PruneRequest(kinds=frozenset({kind}), older_than_seconds=seconds)
            await self.prune(request, dry_run=False)

    async def prune(self, request: PruneRequest, *, dry_run: bool) -> PruneReport:
        """What would go, or with `dry_run` False what went, and how much that frees."""
        async with self._one_at_a_time:
            report, before = PruneReport(), self._clock.now() - request.older_than_seconds
            for kind in sorted(request.kinds - {PruneKind.DELIVERIES} - _HANDED_IN):
                await self._jobs(request, kind, before, report, dry_run=dry_run)
            for kind in sorted(request.kinds & _HANDED_IN):
                await self._things(request, kind, before, report, dry_run=dry_run)
            if PruneKind.CACHES in request.kinds and request.user is None:
                await self._wandb(before, report, dry_run=dry_run)
            if PruneKind.DELIVERIES in request.kinds and request.user is None:
                await self._deliveries(before, report, dry_run=dry_run)
            if not dry_run and (report.items or report.deliveries):
                await self._tell(report)
            return report

    async def _jobs(
        self,
        request: PruneRequest,
        kind: PruneKind,
        before: float,
        report: PruneReport,
        *,
        dry_run: bool,
    ) -> None:
        after = 0
        while page := await self._page(request, before, after):
            needed = await self._needed(kind)
            for job in page:
                if job.id in needed or (kind in _WHOLE and not _is_meant(kind, job)):
                    continue
                items = await asyncio.to_thread(self._found.of_job, job, kind)
                if items and not dry_run:
                    items = await self._remove(job, kind, items, report)
                report.items += items
            after = page[-1].number

    async def _things(
        self,
        request: PruneRequest,
        kind: PruneKind,
        before: float,
        report: PruneReport,
        *,
        dry_run: bool,
    ) -> None:
        """What is nothing of a job; a state of jobs says nothing of it."""
        if self._handed_in is None or request.state is not None:
            return
        for item in await self._handed_in.find(kind, before, request.user):
            if dry_run or await self._handed_in.remove(item):
                report.items.append(item)

    async def _needed(self, kind: PruneKind) -> set[str]:
        """Ids of the jobs of which others that are not over use what is of this kind."""
        if kind in _WHOLE:
            return await self._database.read(pruning.needed)
        return await self._database.read(pruning.lent) if kind is PruneKind.CHECKPOINTS else set()

    async def _page(
        self, request: PruneRequest, before: float, after: int
    ) -> Sequence[FinishedJob]:
        return await self._database.read(
            lambda c: pruning.finished(
                c, before, after=after, user=request.user, state=request.state, limit=_PAGE
            )
        )

    async def _remove(
        self, job: FinishedJob, kind: PruneKind, items: list[PruneItem], report: PruneReport
    ) -> list[PruneItem]:
        """Returns what went."""
        freed = sum(item.bytes for item in items)
        if kind in _WHOLE:
            gone = await self._remove_job(job, freed)
        else:
            gone = await self._database.write(lambda c: self._mark(c, job, kind, freed))
        if not gone:
            return []
        return [item for item in items if await asyncio.to_thread(self._delete, item, report)]

    def _mark(
        self, connection: sqlite3.Connection, job: FinishedJob, kind: PruneKind, freed: int
    ) -> bool:
        now = self._clock.now()
        if kind is PruneKind.CHECKPOINTS and job.id in pruning.lent(connection):
            return False  # since the page was read
        if not pruning.mark(connection, job.number, kind.value, now, freed):
            return False
        data = {"kind": kind.value, "bytes": freed}
        events.append(connection, now, EventType.JOB_PRUNED, job.number, None, data)
        return True

    async def _remove_job(self, job: FinishedJob, freed: int) -> bool:
        """Rows first. The tombstone tells a later run that the directory is to follow, and a
        rebuild that the job is not to come back."""
        folder = self._state_dir / "jobs" / job.id
        if folder.is_dir():
            await asyncio.to_thread((folder / TOMBSTONE).touch)
        while await self._database.write(
            lambda c: pruning.remove_lines(c, job.number, _ROWS_AT_ONCE)
        ):
            pass
        hooks = await self._database.write(lambda c: self._remove_rows(c, job, freed))
        for hook in hooks or ():
            await self._secrets.remove(hook)
        if hooks is None:
            await asyncio.to_thread((folder / TOMBSTONE).unlink, missing_ok=True)
        return hooks is not None

    def _remove_rows(
        self, connection: sqlite3.Connection, job: FinishedJob, freed: int
    ) -> list[str] | None:
        if job.id in pruning.needed(connection):
            return None  # since the page was read
        hooks = pruning.remove_job(connection, job.number)
        if hooks is not None:
            models.bury_of_job(connection, job.id, self._clock.now())
            data = {"job_id": job.id, "number": job.number, "user": job.user, "bytes": freed}
            events.append(connection, self._clock.now(), EventType.JOB_PRUNED, data=data)
        return hooks

    def _delete(self, item: PruneItem, report: PruneReport) -> bool:
        try:
            remove(self._state_dir, PurePath(item.path))
        except (OSError, ValueError) as error:
            report.failed.append(f"{item.path}: {error}")
            log.warning("not removed", action="prune.failed", path=item.path, error=str(error))
            return False
        return True

    async def _wandb(self, before: float, report: PruneReport, *, dry_run: bool) -> None:
        ended = await self._database.read(pruning.ended_wandb_runs)
        items = await asyncio.to_thread(lambda: list(self._found.wandb_runs(ended, before)))
        for item in items:
            if dry_run or await asyncio.to_thread(self._delete, item, report):
                report.items.append(item)

    async def _deliveries(self, before: float, report: PruneReport, *, dry_run: bool) -> None:
        if dry_run:
            report.deliveries = await self._database.read(
                lambda c: pruning.count_deliveries(c, before)
            )
            return
        while count := await self._database.write(
            lambda c: pruning.remove_deliveries(c, before, _ROWS_AT_ONCE)
        ):
            report.deliveries += count

    async def _tell(self, report: PruneReport) -> None:
        data: dict[str, Any] = {"bytes": report.bytes, "things": len(report.items)}
        data |= {"deliveries": report.deliveries, "failed": len(report.failed)}
        log.info("pruned", action="disk.pruned", **data)
        now, kind = self._clock.now(), EventType.DISK_PRUNED
        await self._database.write(lambda c: events.append(c, now, kind, data=data))

    async def _bury(self) -> None:
        """Remove the directories of jobs whose rows a predecessor removed before it ended."""
        jobs_dir = self._state_dir / "jobs"
        stones = await asyncio.to_thread(lambda: list(jobs_dir.glob(f"*/{TOMBSTONE}")))
        names = {stone.parent.name for stone in stones if is_job_id(stone.parent.name)}
        known = await self._database.read(lambda c: pruning.known(c, names))
        for name in sorted(names):
            if name in known:
                await asyncio.to_thread((jobs_dir / name / TOMBSTONE).unlink, missing_ok=True)
            else:
                await asyncio.to_thread(remove, self._state_dir, PurePath("jobs") / name)


def _is_meant(kind: PruneKind, job: FinishedJob) -> bool:
    """A job that left a model goes with `results` only, and one without with `jobs` only."""
    return (job.result is not None) is (kind is PruneKind.RESULTS)
