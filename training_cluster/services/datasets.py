"""What people do with datasets: hand in, look, preview, download, delete."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from training_cluster.crash_points import crash_point
from training_cluster.domain.dataset import (
    DatasetOrigin,
    DatasetState,
    DatasetVersion,
    HubSource,
    NewDataset,
)
from training_cluster.domain.dataset_errors import DatasetInUse, DatasetNotFound, DatasetNotReady
from training_cluster.domain.errors import UnknownDataset
from training_cluster.domain.ids import new_job_id
from training_cluster.domain.principal import Principal
from training_cluster.ports import Clock, Dataset, DatasetInspector, DatasetRegistry
from training_cluster.services import dataset_names, dataset_sources
from training_cluster.services.dataset_files import DatasetFiles
from training_cluster.services.disk import Ample, Disk
from training_cluster.services.hub_tokens import HubTokens
from training_cluster.services.incoming import Incoming
from training_cluster.store import datasets, uploads
from training_cluster.store.database import Database
from training_cluster.store.jobs import LAST

_ROWS_AT_ONCE = 256
_LOOK = "GET /datasets/{key} says why; with ?wait=60 it answers when the check has ended"


class Datasets:
    """The service behind every dialect's datasets and files."""

    def __init__(
        self,
        database: Database,
        files: DatasetFiles,
        folders: DatasetRegistry,
        inspector: DatasetInspector,
        clock: Clock,
        disk: Disk | None = None,
        *,
        roots: Sequence[Path] = (),
    ) -> None:
        self._database = database
        self._files = files
        self._roots = roots
        self._tokens = HubTokens(files.tokens)
        self._folders = folders
        self._inspector = inspector
        self._clock = clock
        self._disk = disk or Ample()
        self._changed = asyncio.Event()
        self.on_new: Callable[[], None] = lambda: None
        self.on_gone: Callable[[str], None] = lambda dataset_id: None

    def new_id(self) -> str:
        """An id for a version that is about to come."""
        return new_job_id(self._clock.now())

    async def receive(
        self, stream: AsyncIterator[bytes], new: NewDataset, dataset_id: str | None = None
    ) -> DatasetVersion:
        """Take in a file, under an id nobody uses; when this returns it is durable and about to be
        checked. Raises InvalidRequest, NameTaken, StorageFull, and what the stream raises."""
        incoming = await self.open(dataset_id or self.new_id())
        try:
            await incoming.copy(stream)
            return await self.adopt(incoming, new)
        except BaseException:
            await asyncio.shield(self.abandon(incoming))
            raise

    async def open(self, dataset_id: str) -> Incoming:
        """A file for the content of a new version, to be given to `adopt` or `abandon`."""
        self._disk.require_room()
        await asyncio.to_thread(self._files.make)
        incoming = Incoming(self._files.incoming(dataset_id), self._disk.require_bytes)
        await incoming.open()
        return incoming

    async def open_new(self) -> Incoming:
        """As `open`, under an id nobody has heard of yet."""
        return await self.open(self.new_id())

    async def adopt(self, incoming: Incoming, new: NewDataset) -> DatasetVersion:
        """Make a version of what was written. Raises InvalidRequest and NameTaken."""
        await incoming.finish()
        await incoming.close()
        return await self._add(incoming.path.name, new, incoming.size_bytes)

    async def abandon(self, incoming: Incoming) -> None:
        """Forget what was written, unless a version was made of it."""
        await incoming.close()
        dataset_id = incoming.path.name
        known = await self._database.read(lambda c: datasets.ever(c, dataset_id))
        if known is None:
            await asyncio.to_thread(self._files.forget, dataset_id)

    async def add_rows(self, rows: Sequence[Mapping[str, Any]], new: NewDataset) -> DatasetVersion:
        """A version from rows that came inside a request; raises as `receive` does."""

        async def lines() -> AsyncIterator[bytes]:
            for number, row in enumerate(rows):
                if number % _ROWS_AT_ONCE == 0:
                    await asyncio.sleep(0)  # let others have a turn
                yield json.dumps(row, ensure_ascii=False).encode() + b"\n"

        named = replace(new, filename=new.filename or "rows.jsonl", origin=DatasetOrigin.ROWS)
        return await self.receive(lines(), named)

    async def add_path(self, path: str, new: NewDataset) -> DatasetVersion:
        """A version from a file below a dataset root, which is copied by its check. Raises
        InvalidRequest and NameTaken."""
        real = await asyncio.to_thread(dataset_sources.resolve, path, self._roots)
        named = replace(
            new, filename=new.filename or real.name, origin=DatasetOrigin.PATH, source=str(real)
        )
        return await self._add(self.new_id(), named, 0)

    async def add_hub(
        self, source: HubSource, new: NewDataset, token: str | None = None
    ) -> DatasetVersion:
        """A version from files on the hub, which are fetched by its check. The token is kept in
        a file until then. Raises InvalidRequest and NameTaken."""
        dataset_id, name = self.new_id(), source.dataset.rpartition("/")[2]
        if token is not None:
            await asyncio.to_thread(self._tokens.write, dataset_id, token)
        origin = {"origin": DatasetOrigin.HUB, "source": source.dataset, "hub": source}
        try:
            named = replace(new, filename=new.filename or source.file or name, **origin)  # type: ignore[arg-type]
            return await self._add(dataset_id, named, 0)
        except BaseException:
            await asyncio.to_thread(self._tokens.remove, dataset_id)
            raise

    async def require_plain(self, new: NewDataset) -> None:
        """Raise InvalidRequest, NameTaken, DatasetNotFound for what could not be adopted now."""
        folders = await asyncio.to_thread(self._folders.versions)
        dataset_names.require_plain(new, folders)
        await self._database.read(lambda c: dataset_names.choose(c, new, folders))
        if isinstance(new.validation, str):
            await self.get(new.validation)

    async def _add(self, dataset_id: str, new: NewDataset, size_bytes: int) -> DatasetVersion:
        folders = await asyncio.to_thread(self._folders.versions)
        dataset_names.require_plain(new, folders)
        now = self._clock.now()

        def insert(connection: sqlite3.Connection) -> DatasetVersion:
            if known := datasets.ever(connection, dataset_id):
                return known
            if isinstance(new.validation, str):
                other = datasets.find(connection, new.validation)
                asked = replace(new, validation=other.id)
            else:
                asked = new
            named = dataset_names.choose(connection, asked, folders)
            datasets.insert(connection, dataset_id, asked, named, size_bytes, now)
            uploads.mark_done(connection, dataset_id, now)
            return datasets.find(connection, dataset_id)

        crash_point("dataset.received")
        added = await self._database.write(insert)
        self.on_new()
        return added

    async def get(self, key: str) -> DatasetVersion:
        """A version by id, number, `name@version`, or the newest of a name. Raises
        DatasetNotFound."""
        try:
            return await self._database.read(lambda c: datasets.find(c, key))
        except DatasetNotFound as missing:
            folders = await asyncio.to_thread(self._folders.versions)
            known = await self._database.read(datasets.names)
            raise dataset_names.nearest(missing, key, known, folders) from None

    async def ever(self, dataset_id: str) -> DatasetVersion | None:
        """The version with this id, deleted or not; None where there never was one."""
        return await self._database.read(lambda c: datasets.ever(c, dataset_id))

    async def folder(self, version: str) -> Dataset | None:
        """The version registered in a folder under this name; None without one. Raises
        InvalidDataset for one that cannot be used."""
        try:
            return await asyncio.to_thread(self._folders.resolve, version)
        except UnknownDataset:
            return None

    async def page(
        self,
        *,
        before: int = LAST,
        limit: int = 50,
        name: str | None = None,
        user: str | None = None,
        purpose: str | None = None,
    ) -> list[DatasetVersion]:
        """Versions with a number below `before`, newest first."""
        return await self._database.read(
            lambda c: datasets.page(
                c, before=before, limit=limit, name=name, user=user, purpose=purpose
            )
        )

    async def set_public(self, key: str, by: Principal, *, is_public: bool) -> DatasetVersion:
        """Let everybody read a version's rows, or its owner and admins only. Raises
        DatasetNotFound and Forbidden."""

        def change(connection: sqlite3.Connection) -> DatasetVersion:
            found = datasets.find(connection, key)
            by.require_ownership(found.user, f"dataset {found.label}")
            datasets.set_public(connection, found, is_public=is_public)
            return datasets.find(connection, found.id)

        return await self._database.write(change)

    async def delete(self, key: str, by: Principal) -> DatasetVersion:
        """Remove a version and the files that no other refers to. Raises DatasetNotFound,
        Forbidden, and DatasetInUse while a job or a model refers to it."""

        def found(connection: sqlite3.Connection) -> DatasetVersion:
            found = datasets.find(connection, key)
            by.require_ownership(found.user, f"dataset {found.label}")
            return found

        return await self._remove(found, by.name)

    async def prune(self, dataset_id: str) -> bool:
        """Remove a version for an administrator; False where it is not there, or in use now."""
        try:
            await self._remove(lambda c: datasets.find(c, dataset_id), "prune")
        except (DatasetNotFound, DatasetInUse):
            return False
        return True

    async def _remove(
        self, which: Callable[[sqlite3.Connection], DatasetVersion], by: str
    ) -> DatasetVersion:
        now = self._clock.now()

        def remove(connection: sqlite3.Connection) -> tuple[DatasetVersion, set[str]]:
            found = which(connection)
            _refuse_used(connection, found)
            datasets.delete(connection, found, by, now)
            return found, found.files - datasets.files_in_use(connection)

        async with self._files.changing:
            found, unused = await self._database.write(remove)
            crash_point("dataset.deleted")
            self.on_gone(found.id)
            await asyncio.to_thread(self._files.forget, found.id)
            await asyncio.to_thread(self._files.remove, unused)
        await asyncio.to_thread(self._tokens.remove, found.id)
        self.tell()
        return found

    async def content(self, key: str) -> IO[bytes]:
        """The file as it came, opened for whoever closes it. Raises DatasetNotFound, and
        DatasetNotReady while it is fetched from elsewhere."""
        found = await self.get(key)
        for _ in range(2):  # its check may give it another name meanwhile
            if path := self._place(found):
                with contextlib.suppress(FileNotFoundError):
                    return await asyncio.to_thread(path.open, "rb")
            found = await self.get(found.id)
        raise DatasetNotReady(f"the content of dataset {found.label} is not there yet")

    def _place(self, found: DatasetVersion) -> Path | None:
        """Where the file lies that came; None before one has."""
        if found.original:
            return self._files.stored(found.original)
        came = found.origin in (DatasetOrigin.UPLOAD, DatasetOrigin.ROWS)
        return self._files.incoming(found.id) if came else None

    async def preview(self, key: str, most: int) -> Sequence[Mapping[str, Any]]:
        """The first rows that are trained on. Raises DatasetNotFound and DatasetNotReady."""
        found = await self.get(key)
        if found.state is not DatasetState.READY or found.train_file is None:
            raise DatasetNotReady(f"dataset {found.label} is {found.state.value}", hint=_LOOK)
        try:
            return await self._inspector.first_rows(self._files.stored(found.train_file), most)
        except FileNotFoundError:
            found = await self.get(found.id)  # it may have been deleted while the reader started
            raise DatasetNotReady(f"the rows of dataset {found.label} are missing") from None

    async def wait(self, key: str, seconds: float) -> DatasetVersion:
        """A version once it was checked, or as it is after that many seconds. Raises
        DatasetNotFound."""
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            changed = self._changed
            found = await self.get(key)
            if found.state is not DatasetState.CHECKING:
                return found
            try:
                async with asyncio.timeout_at(deadline):
                    await changed.wait()
            except TimeoutError:
                return found

    def tell(self) -> None:
        """Wake those who wait: a version has been checked, or has gone."""
        self._changed.set()
        self._changed = asyncio.Event()


def _refuse_used(connection: sqlite3.Connection, found: DatasetVersion) -> None:
    who = datasets.used_by(connection, found)
    if who is not None:
        raise DatasetInUse(
            f"{who} refers to dataset {found.label}",
            hint="cancel the job, or delete the model, if it is not wanted any more",
        )
