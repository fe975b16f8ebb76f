"""Reads the job directories into a database that lost them, so that nothing runs twice.

The directories are the truth: an attempt that was launched is known as such, whatever the database
says. Those that may still run are left open, and the next daemon adopts them.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training_cluster.domain.ids import is_job_id
from training_cluster.domain.job import FINISHED, Outcome, Verdict
from training_cluster.domain.spec import JobSpec
from training_cluster.ports import Exit, Sighting, Trainer
from training_cluster.services.job_records import RECORD_NAME
from training_cluster.services.prunable import TOMBSTONE
from training_cluster.store import reconcile
from training_cluster.store.reconcile import KnownJob

_ATTEMPT = re.compile(r"attempt-([1-9]\d{0,5})")
_LOST = Verdict(
    Outcome.LOST,
    "its attempt was under way when the database was lost, and its directory is not there",
    "Submit the job again.",
)

Progress = Callable[[int, int], None]


@dataclass(slots=True)
class Findings:
    """What the directories added: jobs by what became of them, and folders nobody can name."""

    directories: int = 0
    added: int = 0
    running: int = 0
    queued: int = 0
    finished: int = 0
    lost: int = 0
    unstarted: int = 0
    unknown: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Found:
    """An attempt's directory: what its files say of it."""

    number: int
    directory: Path
    sighting: Sighting
    ending: Exit | None


class Directories:
    """The folder of all jobs, read by `look` (what an attempt's files say)."""

    def __init__(
        self,
        jobs_dir: Path,
        trainer: Trainer,
        look: Callable[[Path], tuple[Sighting, Exit | None]],
        now: float,
        *,
        quiet: bool,
    ) -> None:
        self._jobs_dir = jobs_dir
        self._trainer = trainer
        self._look = look
        self._now = now
        self._quiet = quiet
        self.findings = Findings()

    def read_into(self, connection: sqlite3.Connection, progress: Progress) -> Findings:
        """Bring the database up to date, inside the caller's transaction."""
        folders = sorted(self._folders(), key=lambda path: path.name)
        for done, folder in enumerate(folders):
            self._job(connection, folder)
            progress(done + 1, len(folders))
        known = {folder.name for folder in folders}
        for job in reconcile.active(connection):
            if job.id not in known or not self._has_attempt(job):
                self._gone(connection, job)
            elif not reconcile.is_open(connection, job, job.attempt_number):
                reconcile.requeue(connection, job, job.attempt_number - 1)
                self.findings.queued += 1
        self.findings.directories = len(folders)
        return self.findings

    def _folders(self) -> Iterator[Path]:
        if self._jobs_dir.is_dir():
            for path in self._jobs_dir.iterdir():
                is_job = path.is_dir() and not path.is_symlink() and is_job_id(path.name)
                if is_job and not (path / TOMBSTONE).exists():
                    yield path

    def _has_attempt(self, job: KnownJob) -> bool:
        return (self._jobs_dir / job.id / f"attempt-{job.attempt_number}").is_dir()

    def _gone(self, connection: sqlite3.Connection, job: KnownJob) -> None:
        """Perhaps it ran: it is not started again by itself."""
        number, code = job.attempt_number, None
        reconcile.end_attempt(connection, job, number, Outcome.LOST, code, self._now)
        reconcile.finish(connection, job, number, _LOST, self._now)
        self.findings.lost += 1

    def _job(self, connection: sqlite3.Connection, folder: Path) -> None:
        record = _record(folder)
        launched = [a for a in self._attempts(folder) if a.sighting is not Sighting.NEVER]
        job = reconcile.find(connection, folder.name)
        is_new = job is None
        if job is None:
            if record is None:
                self._nameless(folder, launched)
                return
            try:
                job = reconcile.add_job(connection, record)
            except (sqlite3.Error, LookupError, TypeError, AssertionError):
                self.findings.unknown.append(str(folder))
                return
            self.findings.added += 1
        reconcile.add_model(connection, record or {})
        if not launched:
            self.findings.queued += is_new
            return
        ahead = is_new or launched[-1].number > job.attempt_number
        if ahead or job.state not in FINISHED:
            self._bring_up(connection, job, launched, record or {}, ahead=ahead)

    def _nameless(self, folder: Path, launched: Sequence[Found]) -> None:
        """A job that was prepared ahead has no record before it starts."""
        if launched:
            self.findings.unknown.append(str(folder))
        else:
            self.findings.unstarted += 1

    def _attempts(self, folder: Path) -> list[Found]:
        found = []
        for path in folder.iterdir():
            number = _ATTEMPT.fullmatch(path.name)
            if number and path.is_dir() and not path.is_symlink():
                found.append(Found(int(number[1]), path, *self._look(path)))
        return sorted(found, key=lambda attempt: attempt.number)

    def _bring_up(
        self,
        connection: sqlite3.Connection,
        job: KnownJob,
        launched: Sequence[Found],
        record: Mapping[str, Any],
        *,
        ahead: bool,
    ) -> None:
        *earlier, last = launched
        for attempt in earlier:
            self._add(connection, job, attempt, record)
            verdict, at = self._verdict(record, attempt), self._ended_at(attempt)
            code = attempt.ending.code if attempt.ending else None
            reconcile.end_attempt(connection, job, attempt.number, verdict.outcome, code, at)
        self._add(connection, job, last, record)
        if not reconcile.is_open(connection, job, last.number):
            return
        if last.sighting is Sighting.EXITED and (ahead or self._quiet):
            self._conclude(connection, job, last, record)
            return
        reconcile.reopen(connection, job, last.number, self._now)
        if last.sighting is Sighting.ALIVE:
            rows = [r for r in record.get("leases", ()) if r["attempt_number"] == last.number]
            reconcile.lease(connection, job, last.number, rows)
        self.findings.running += 1

    def _conclude(
        self,
        connection: sqlite3.Connection,
        job: KnownJob,
        last: Found,
        record: Mapping[str, Any],
    ) -> None:
        """It has ended: nobody is told again. Retries it has left are not taken."""
        verdict, at = self._verdict(record, last), self._ended_at(last)
        code = last.ending.code if last.ending else None
        reconcile.end_attempt(connection, job, last.number, verdict.outcome, code, at)
        reconcile.finish(connection, job, last.number, verdict, at)
        self.findings.finished += 1

    def _add(
        self,
        connection: sqlite3.Connection,
        job: KnownJob,
        attempt: Found,
        record: Mapping[str, Any],
    ) -> None:
        rows = {row["number"]: row for row in record.get("attempts", ())}
        began = attempt.ending.started_at if attempt.ending else None
        made = {"created_at": began or attempt.directory.stat().st_mtime, "started_at": began}
        row = rows.get(attempt.number, made)
        reconcile.add_attempt(connection, job, attempt.number, str(attempt.directory), row)

    def _verdict(self, record: Mapping[str, Any], attempt: Found) -> Verdict:
        if attempt.ending is None:
            return Verdict(Outcome.LOST, "the runner vanished without a record of the end")
        try:
            spec = JobSpec.from_json(record["job"]["spec"])
        except (LookupError, ValueError, TypeError):
            spec = JobSpec()
        return self._trainer.judge(spec, attempt.directory, attempt.ending, None)

    def _ended_at(self, attempt: Found) -> float:
        return (attempt.ending.ended_at if attempt.ending else None) or self._now


def _record(folder: Path) -> dict[str, Any] | None:
    path = folder / RECORD_NAME
    try:
        content = json.loads(path.read_bytes()) if not path.is_symlink() else None
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and "job" in content else None
