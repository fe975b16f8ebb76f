"""Uploads that may break: each has an address of its own and goes on where it stopped.

How much has come is the size of the file, nothing else: a daemon that dies in the middle, or a
connection that does, leaves what it wrote. Whoever comes last has the upload: a client that lost
its connection knows so before we do.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import secrets
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import structlog

from training_cluster.domain.dataset import DatasetVersion, NewDataset
from training_cluster.domain.dataset_errors import UploadNotFound, WrongOffset
from training_cluster.domain.errors import FieldProblem, InvalidRequest, TooMany
from training_cluster.domain.principal import Principal
from training_cluster.domain.upload import WHOLE, Part, Upload
from training_cluster.ports import Clock
from training_cluster.services.dataset_files import DatasetFiles
from training_cluster.services.datasets import Datasets
from training_cluster.services.disk import Ample, Disk
from training_cluster.services.incoming import Incoming
from training_cluster.services.loop import Loop
from training_cluster.store import datasets, uploads
from training_cluster.store.database import Database

log = structlog.get_logger(__name__)

_EVERY_SECONDS = 3600.0
_MOST_OF_USER = 256
_RETRY_AFTER_SECONDS = 60

Stream = AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class IssuedUpload:
    """A new upload, and the key by which its address is recognised: told this once."""

    upload: Upload
    key: str

    @property
    def path(self) -> str:
        """Where the parts go; whoever knows it may send them, and do nothing else."""
        return f"/uploads/{self.upload.id}?key={self.key}"


class Uploads(Loop):
    """Takes parts, makes a dataset of what is whole, gives up what was begun long ago."""

    name = "uploads"

    def __init__(
        self,
        database: Database,
        files: DatasetFiles,
        made: Datasets,
        clock: Clock,
        disk: Disk | None = None,
        *,
        kept_seconds: float = 7 * 86_400.0,
        most_bytes: int = 50 << 30,
    ) -> None:
        super().__init__()
        self._database = database
        self._files = files
        self._datasets = made
        self._clock = clock
        self._disk = disk or Ample()
        self.kept_seconds = kept_seconds
        self._most_bytes = most_bytes
        self._receiving: dict[str, asyncio.Task[Upload]] = {}
        self._completing: set[str] = set()

    def delay(self) -> float | None:
        """Looks for what is to be given up every hour."""
        return _EVERY_SECONDS

    async def create(
        self, new: NewDataset, by: Principal, total_bytes: int | None = None
    ) -> IssuedUpload:
        """An address for a file that is to become a dataset. Raises InvalidRequest, TooMany,
        StorageFull."""
        await self._datasets.require_plain(new)
        self._require_size(total_bytes)
        await asyncio.to_thread(self._disk.require_bytes, total_bytes or 0)
        key = secrets.token_urlsafe(24)
        now, upload_id = self._clock.now(), self._datasets.new_id()
        upload = Upload(
            id=upload_id, user=by.name, asked=new, created_at=now, total_bytes=total_bytes
        )
        await self._database.write(lambda c: _insert(c, upload, _hash(key)))
        return IssuedUpload(upload, key)

    def _require_size(self, total_bytes: int | None) -> None:
        if total_bytes is not None and total_bytes > self._most_bytes:
            message = f"{total_bytes} bytes are more than the {self._most_bytes} a file may have"
            expected = f"at most {self._most_bytes}; the setting datasets.most_gib"
            raise InvalidRequest(message, problems=(FieldProblem("size", message, expected),))

    async def owner(self, upload_id: str, key: str) -> str | None:
        """Whose an upload is, for one who knows its key."""
        known = await self._database.read(lambda c: uploads.key_of(c, upload_id))
        if known is None or not hmac.compare_digest(known[1], _hash(key)):
            return None
        return known[0]

    async def get(self, upload_id: str) -> Upload:
        """An upload, and how much has come. Raises UploadNotFound."""
        found = await self._database.read(lambda c: uploads.find(c, upload_id))
        return replace(found, received_bytes=await asyncio.to_thread(self._size, found))

    async def unfinished(self, user: str | None, limit: int) -> list[Upload]:
        """Uploads under way, of one user or of all, newest first."""
        found = await self._database.read(lambda c: uploads.unfinished(c, user, limit))
        sizes = await asyncio.to_thread(lambda: [self._size(each) for each in found])
        return [replace(each, received_bytes=size) for each, size in zip(found, sizes, strict=True)]

    def _size(self, upload: Upload) -> int:
        if upload.done:
            return upload.total_bytes or 0
        try:
            return self._files.incoming(upload.id).stat().st_size
        except FileNotFoundError:
            return 0

    async def dataset(self, upload_id: str) -> DatasetVersion:
        """What an upload has become. Raises UploadNotFound when that was deleted."""
        found = await self._database.read(lambda c: datasets.ever(c, upload_id))
        if found is None or found.deleted_at is not None:
            raise UploadNotFound(f"the dataset of upload {upload_id} was deleted")
        return found

    async def receive(self, upload_id: str, part: Part, stream: Stream) -> Upload:
        """Take a part in; the upload is done when that was the last. Raises UploadNotFound,
        WrongOffset when bytes are missing before it, InvalidRequest, StorageFull, NameTaken and
        what the stream raises: then what came of it stays."""
        total = await self._agree(await self.get(upload_id), part)
        await self._take_over(upload_id)
        taking = asyncio.create_task(self._take_in(upload_id, part, stream, total))
        self._receiving[upload_id] = taking
        try:
            return await taking
        except asyncio.CancelledError:
            if taking.cancelled():
                raise WrongOffset("another request has gone on with this upload") from None
            taking.cancel()
            await asyncio.wait({taking})
            raise
        finally:
            self._forget(upload_id, taking)

    async def _take_over(self, upload_id: str) -> None:
        """End a request that still holds the upload: its client has come back by another. One
        that has all of it is let come to its end."""
        while (before := self._receiving.get(upload_id)) is not None:
            if upload_id not in self._completing:
                before.cancel()
            await asyncio.wait({before})
            self._forget(upload_id, before)

    def _forget(self, upload_id: str, task: asyncio.Task[Upload]) -> None:
        if self._receiving.get(upload_id) is task:
            del self._receiving[upload_id]

    async def _take_in(
        self, upload_id: str, part: Part, stream: Stream, total: int | None
    ) -> Upload:
        upload = await self.get(upload_id)
        if upload.done:
            return upload
        size = await self._append(upload_id, part, stream)
        if part is WHOLE and total is None:
            total = size
        if total is None or size < total:
            return await self.get(upload_id)
        self._completing.add(upload_id)
        try:
            return await self._complete(upload, total)
        finally:
            self._completing.discard(upload_id)

    async def _agree(self, upload: Upload, part: Part) -> int | None:
        """How many bytes there will be, as far as anybody has said. Raises InvalidRequest."""
        said, known = part.total_bytes, upload.total_bytes
        self._require_size(said)
        if said is not None and known is not None and said != known:
            message = f"the upload has {known} bytes in all, not {said}"
            problem = FieldProblem("Content-Range", message, f"bytes .../{known}")
            raise InvalidRequest(message, problems=(problem,))
        if said is not None and known is None:
            await self._database.write(lambda c: uploads.set_total(c, upload.id, said))
        return known if said is None else said

    async def _append(self, upload_id: str, part: Part, stream: Stream) -> int:
        """Write a part; returns how many bytes there are then."""
        incoming = await self._datasets.open(upload_id)
        try:
            if part is WHOLE:
                await incoming.cut()
            await self._copy(incoming, part, stream)
        finally:
            await asyncio.shield(_let_go(incoming))
        return incoming.size_bytes

    async def _copy(self, incoming: Incoming, part: Part, stream: Stream) -> None:
        known = incoming.size_bytes - part.first
        if known < 0:
            raise WrongOffset(
                f"the part begins at byte {part.first}, and {incoming.size_bytes} bytes have come",
                hint="ask where it stands: Content-Range: bytes */<total>",
            )
        left = part.length
        async for data in stream:
            if left is not None and len(data) > left:
                data = data[:left]
            left = None if left is None else left - len(data)
            skipped = min(known, len(data))  # bytes that came before, sent again
            known -= skipped
            if len(data) > skipped:
                await incoming.write(data[skipped:] if skipped else data)
                self._require_size(incoming.size_bytes)
        if left:
            raise InvalidRequest(f"the part ends {left} bytes early")

    async def _complete(self, upload: Upload, total: int) -> Upload:
        incoming = await self._datasets.open(upload.id)
        try:
            if incoming.size_bytes != total:
                raise InvalidRequest(f"{incoming.size_bytes} bytes have come, of {total}")
            await self._datasets.adopt(incoming, upload.asked)
        finally:
            await incoming.close()
        return replace(upload, total_bytes=total, received_bytes=total, done=True)

    async def cancel(self, upload_id: str) -> None:
        """Give an upload up. Raises UploadNotFound. What has become a dataset stays one."""
        await self._take_over(upload_id)
        await self._database.write(lambda c: _delete(c, upload_id))
        await self._take_over(upload_id)  # that of who came since, and may have come to its end
        if await self._datasets.ever(upload_id) is None:
            await asyncio.to_thread(self._files.forget, upload_id)

    async def run_once(self) -> None:
        """Give up what was begun long ago."""
        moment = self._clock.now() - self.kept_seconds
        for upload_id in await self._database.read(lambda c: uploads.begun_before(c, moment)):
            with contextlib.suppress(UploadNotFound):
                await self.cancel(upload_id)
                log.info("given up", action="upload.expired", upload=upload_id)


async def _let_go(incoming: Incoming) -> None:
    """What has come counts, whatever ended the request."""
    try:
        await incoming.flush()
    finally:
        await incoming.close()


def _insert(connection: sqlite3.Connection, upload: Upload, key_sha256: bytes) -> None:
    if uploads.count_of(connection, upload.user) >= _MOST_OF_USER:
        raise TooMany(
            f"{upload.user} has {_MOST_OF_USER} uploads under way, which is the most",
            retry_after_seconds=_RETRY_AFTER_SECONDS,
            hint="finish some, or DELETE /uploads/{id}; GET /uploads lists them",
        )
    uploads.insert(connection, upload, key_sha256)


def _delete(connection: sqlite3.Connection, upload_id: str) -> None:
    uploads.find(connection, upload_id)
    uploads.delete(connection, upload_id)


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
