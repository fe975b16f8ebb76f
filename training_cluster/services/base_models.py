"""Base models: what lies in the hub's cache and below the model roots, and fetching more."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from training_cluster.domain.errors import TrainingClusterError
from training_cluster.domain.hub import name_of
from training_cluster.domain.job import FINISHED, Job
from training_cluster.domain.principal import Principal
from training_cluster.domain.spec import DOWNLOAD, JobSpec
from training_cluster.services.download_tokens import DownloadTokens
from training_cluster.services.jobs import Jobs, Overview, Submission
from training_cluster.store import apart, jobs
from training_cluster.store.database import Database

_DEEPEST = 3
_LATEST = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseModel:
    """A model that trainings can start from. `name` is what `model_name` takes, `source` is hub or
    root; `revision` is the hub's. One that is not complete is being fetched, or was cut off."""

    name: str
    source: str
    path: str
    size_bytes: int
    files: tuple[str, ...]
    revision: str | None = None
    is_complete: bool = True


class BaseModels:
    """Looks at the disk each time it is asked, on a thread."""

    def __init__(
        self,
        database: Database,
        service: Jobs,
        tokens: DownloadTokens,
        *,
        hub: Path,
        roots: Sequence[Path],
    ) -> None:
        self._database = database
        self._jobs = service
        self._tokens = tokens
        self._hub = hub
        self._roots = roots

    async def start(self) -> None:
        """Remove tokens of downloads that are over; to be called before anybody can ask."""
        found = await self._database.read(apart.downloads)
        held = {job.id: job.spec.options.get("token_ref") for job in found}
        await self._tokens.sweep({job: str(ref) for job, ref in held.items() if ref})

    async def all(self) -> list[BaseModel]:
        """What there is, by name."""
        return await asyncio.to_thread(self._look)

    def _look(self) -> list[BaseModel]:
        found = [*in_hub(self._hub), *(m for root in self._roots for m in below(root))]
        return sorted({model.path: model for model in found}.values(), key=lambda m: m.name)

    async def downloads(self) -> list[Job]:
        """The latest downloads, newest first."""
        return await self._jobs.page(kind=DOWNLOAD, limit=_LATEST)

    async def fetch(
        self, name: str, by: Principal, *, revision: str | None = None, token: str | None = None
    ) -> Overview:
        """Queue a download from the hub; one of the same user for the same model that is not over
        is answered with instead. Raises InvalidRequest for what is no hub id, and what submitting
        raises. A `token` is kept until the job is over."""
        known = await self._database.read(lambda c: _under_way(c, name, revision, by))
        if known is not None and token is None:
            return await self._jobs.get(known.id)
        ref = None if token is None else await self._tokens.keep(token)
        told = {"revision": revision, "token_ref": ref}
        spec = JobSpec(
            kind=DOWNLOAD,
            model_name=name,
            needs_device=False,
            tracking_backend="none",
            options={key: value for key, value in told.items() if value is not None},
        )
        try:
            made = await self._jobs.submit(
                Submission(spec=spec, user=by.name, is_admin=by.is_admin)
            )
        except TrainingClusterError:
            self._tokens.forget(ref or "")
            raise
        if ref is not None:
            self._tokens.belongs(ref, made.job.id)
            if (await self._jobs.get(made.job.id)).job.state in FINISHED:
                self._tokens.over(made.job.id)  # its end was told before it had a token
        return made


def _under_way(
    connection: sqlite3.Connection, name: str, revision: str | None, by: Principal
) -> Job | None:
    for job in apart.downloads(connection):
        same = job.spec.model_name == name and job.spec.options.get("revision") == revision
        if same and job.user == by.name:
            return jobs.find(connection, job.id)
    return None


def in_hub(hub: Path) -> Iterator[BaseModel]:
    """The models in a hub's cache, each in the revision that trainers would take."""
    for folder in _folders(hub):
        name = name_of(folder.name)
        snapshot = None if name is None else _snapshot(folder)
        if name is None or snapshot is None:
            continue
        sizes = _sizes(snapshot)
        blobs = {path.name for path in _entries(folder / "blobs")}
        torn = any(n.endswith(".incomplete") and n.partition(".")[0] not in blobs for n in blobs)
        yield BaseModel(
            name=name,
            source="hub",
            path=str(snapshot),
            size_bytes=sum(sizes.values()),
            files=tuple(sizes),
            revision=snapshot.name,
            is_complete=not torn and "config.json" in sizes,
        )


def below(root: Path, depth: int = 1) -> Iterator[BaseModel]:
    """The folders below a model root that hold a model."""
    for folder in _folders(root):
        sizes = _sizes(folder)
        if "config.json" in sizes:
            yield BaseModel(
                name=str(folder),
                source="root",
                path=str(folder),
                size_bytes=sum(sizes.values()),
                files=tuple(sizes),
            )
        elif depth < _DEEPEST:
            yield from below(folder, depth + 1)


def _snapshot(folder: Path) -> Path | None:
    """The revision `main` stands for, else the newest."""
    try:
        named = folder / "snapshots" / (folder / "refs" / "main").read_text("utf-8").strip()
        if named.is_dir() and named.parent == folder / "snapshots":
            return named
    except (OSError, ValueError):
        pass
    known = _folders(folder / "snapshots")
    return max(known, key=_changed_at, default=None)


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # it was removed just now
        return 0.0


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes of each file; what a link stands for counts, as files in the hub's cache are links."""
    found = {}
    for path in sorted(_entries(folder)):
        try:
            if path.is_file():
                found[path.name] = path.stat().st_size
        except OSError:
            continue
    return found


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in _entries(folder) if path.is_dir())


def _entries(folder: Path) -> list[Path]:
    try:
        return [folder / name for name in os.listdir(folder)]
    except (OSError, ValueError):
        return []
