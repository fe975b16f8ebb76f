"""Keeps a record of each job that was started in its directory, so that a lost database can be
made again.

It is written beside the start, not on its way: a daemon that dies in between has the job in its
database, and writes what is missing when it comes up again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog

from training_cluster.domain.event import Event, EventType
from training_cluster.services.loop import Loop
from training_cluster.store import job_records
from training_cluster.store.database import Database
from training_cluster.store.facts import Fact

log = structlog.get_logger(__name__)

RECORD_NAME = "job.json"
_MOST_AT_ONCE = 64
_RECORDED = frozenset(
    {
        EventType.JOB_STARTING,
        EventType.MODEL_REGISTERED,
        EventType.MODEL_ALIASED,
        EventType.MODEL_DELETED,
    }
)


class JobRecords(Loop):
    """Told of every commit; writes the record of each job whose attempt was claimed, and of each
    whose model was registered, named or deleted."""

    name = "job records"

    def __init__(self, database: Database, jobs_dir: Path) -> None:
        super().__init__()
        self._database = database
        self._jobs_dir = jobs_dir
        self._due: dict[str, None] = {}

    def notice(self, facts: Sequence[Fact]) -> None:
        """Remember the jobs that are being started, and those whose models change."""
        for fact in facts:
            if isinstance(fact, Event) and fact.type in _RECORDED and fact.job_id:
                self._due[fact.job_id] = None
        if self._due:
            self.wake()

    async def catch_up(self) -> None:
        """Have the records of all active jobs written that a predecessor did not come to write."""
        active = await self._database.read(job_records.active)
        missing = await asyncio.to_thread(self._missing, active)
        self._due.update(dict.fromkeys(missing))

    def _missing(self, job_ids: set[str]) -> list[str]:
        return [job for job in sorted(job_ids) if not (self._jobs_dir / job / RECORD_NAME).exists()]

    async def run_once(self) -> None:
        """Write what is due; what cannot be written is tried again with the next start."""
        due = list(self._due)[:_MOST_AT_ONCE]
        if not due:
            return
        records = await self._database.read(
            lambda c: {job: job_records.record(c, job) for job in due}
        )
        for job in due:
            del self._due[job]
        await asyncio.to_thread(self._write_all, records)
        if self._due:
            self.wake()

    def _write_all(self, records: dict[str, dict[str, Any] | None]) -> None:
        for job, record in records.items():
            try:
                if record is not None:
                    write_durably(self._jobs_dir / job / RECORD_NAME, record)
            except OSError as error:
                log.warning("no record", action="record.failed", job=job, error=error.strerror)


def write_durably(path: Path, content: dict[str, Any]) -> None:
    """Replace a JSON file as a whole; it is on the disk when this returns. Mode 0600."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        with open(os.open(temporary, flags, 0o600), "w", encoding="utf-8") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
