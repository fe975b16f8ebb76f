"""Files that come in parts, in any order, and become a dataset once they are said to be whole.

All of it lies on the disk: an upload is a folder with what was announced and its parts, each of
which has its name only once it is complete. A daemon that is killed goes on with what is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from training_cluster.domain.dataset import DatasetVersion, NewDataset
from training_cluster.domain.dataset_errors import UploadNotFound
from training_cluster.domain.errors import FieldProblem, InvalidRequest, WrongState
from training_cluster.domain.ids import is_job_id, new_job_id
from training_cluster.domain.principal import Principal
from training_cluster.ports import Clock
from training_cluster.services.datasets import Datasets
from training_cluster.services.disk import Ample, Disk
from training_cluster.services.incoming import Incoming

KEPT_SECONDS = 24 * 3600.0
_PIECE_BYTES = 4 << 20
_ANNOUNCED = "upload.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class PartUpload:
    """A file that is coming. `bytes` is its whole size; times are Unix seconds."""

    id: str
    user: str
    filename: str
    purpose: str
    bytes: int
    created_at: float

    @property
    def expires_at(self) -> float:
        """When what has come of it is thrown away."""
        return self.created_at + KEPT_SECONDS


class PartUploads:
    """Uploads below one folder. Methods that take `by`, who asks, raise UploadNotFound for those
    of others, which do not exist for them."""

    def __init__(
        self,
        folder: Path,
        datasets: Datasets,
        clock: Clock,
        disk: Disk | None = None,
        *,
        most_bytes: int = 50 << 30,
    ) -> None:
        self._most_bytes = most_bytes
        self._folder = folder
        self._datasets = datasets
        self._clock = clock
        self._disk = disk or Ample()
        self._completing: dict[str, asyncio.Lock] = {}

    async def announce(self, user: str, filename: str, purpose: str, size_bytes: int) -> PartUpload:
        """Begin an upload. Raises InvalidRequest for one that is too large, and StorageFull."""
        if size_bytes > self._most_bytes:
            raise _refusal("bytes", f"a file may have at most {self._most_bytes} bytes")
        self._disk.require_room()
        now = self._clock.now()
        upload = PartUpload(
            id=new_job_id(now),
            user=user,
            filename=filename,
            purpose=purpose,
            bytes=size_bytes,
            created_at=now,
        )
        await asyncio.to_thread(self._begin, upload)
        return upload

    def _begin(self, upload: PartUpload) -> None:
        self.sweep()
        place = self._folder / upload.id
        place.mkdir(mode=0o700, parents=True)
        half = place / f"{_ANNOUNCED}.half"
        half.write_text(json.dumps(asdict(upload)))
        half.replace(place / _ANNOUNCED)

    async def get(self, upload_id: str, by: Principal) -> PartUpload:
        """An upload that is under way: nothing was made of it yet."""
        found = await self.announced(upload_id, by)
        if await self._datasets.ever(found.id) is not None:
            raise WrongState(f"upload {upload_id!r} is completed", hint="its file is there")
        return found

    async def announced(self, upload_id: str, by: Principal) -> PartUpload:
        """An upload under way, or completed within a day of its announcement."""
        found = await asyncio.to_thread(self._read, upload_id)
        if found is None or not by.owns(found.user) or found.expires_at < self._clock.now():
            raise UploadNotFound(
                f"there is no upload {upload_id!r} under way",
                hint="it was completed, cancelled, or came to its end after a day",
            )
        return found

    def _read(self, upload_id: str) -> PartUpload | None:
        if not is_job_id(upload_id):
            return None
        try:
            return PartUpload(**json.loads((self._folder / upload_id / _ANNOUNCED).read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    async def open_part(self, upload: PartUpload) -> Incoming:
        """A file for one part, to be given to `keep` or `drop`. Raises StorageFull, InvalidRequest
        once twice as much has come as was announced, and UploadNotFound."""
        self._disk.require_room()
        place = self._folder / upload.id
        with _or_gone(place):
            come = await asyncio.to_thread(_size, place)
            if come > 2 * upload.bytes + _PIECE_BYTES:
                raise _refusal("data", f"{come} bytes have come, {upload.bytes} were announced")
            name = new_job_id(self._clock.now())
            incoming = Incoming(place / f"{name}.half", self._disk.require_bytes)
            await incoming.open()
        return incoming

    async def keep(self, incoming: Incoming) -> str:
        """Make a part of what was written; returns its id. Durable when this returns. Raises
        UploadNotFound when the upload was cancelled meanwhile."""
        await incoming.finish()
        await incoming.close()
        part = incoming.path.with_suffix("")
        with _or_gone(part.parent):
            await asyncio.to_thread(os.replace, incoming.path, part)
        return part.name

    async def drop(self, incoming: Incoming) -> None:
        """Forget what was written, unless it was kept."""
        await incoming.close()
        await asyncio.to_thread(incoming.path.unlink, missing_ok=True)

    async def complete(
        self, upload: PartUpload, part_ids: Sequence[str], new: NewDataset, md5: str | None
    ) -> DatasetVersion:
        """Put the parts together, in this order, and make a dataset of them that has the upload's
        id; who asks again, because the answer was lost, is told the same. Raises InvalidRequest for
        parts that are not there, or that are not the file that was announced."""
        async with self._completing.setdefault(upload.id, asyncio.Lock()):
            made = await self._datasets.ever(upload.id)
            if made is None:
                with _or_gone(self._folder / upload.id):
                    parts = await asyncio.to_thread(self._parts, upload, part_ids)
                made = await self._datasets.receive(_read_all(parts, md5), new, upload.id)
            await asyncio.to_thread(self._drop_parts, upload)
        self._completing.pop(upload.id, None)
        if made.deleted_at is not None:
            raise UploadNotFound(f"the file of upload {upload.id!r} was deleted")
        return made

    def _drop_parts(self, upload: PartUpload) -> None:
        with contextlib.suppress(FileNotFoundError):  # cancelled just now
            for path in (self._folder / upload.id).iterdir():
                if path.name != _ANNOUNCED:
                    path.unlink(missing_ok=True)

    async def cancel(self, upload: PartUpload) -> None:
        """Throw away what has come."""
        await asyncio.to_thread(shutil.rmtree, self._folder / upload.id, ignore_errors=True)

    def _parts(self, upload: PartUpload, part_ids: Sequence[str]) -> list[Path]:
        place = self._folder / upload.id
        paths = [place / part for part in part_ids if is_job_id(part)]
        if len(paths) < len(part_ids) or not all(path.is_file() for path in paths):
            raise _refusal("part_ids", "not all of these are parts of this upload")
        size = sum(path.stat().st_size for path in paths)
        if size != upload.bytes:
            raise _refusal("part_ids", f"they have {size} bytes, {upload.bytes} were announced")
        return paths

    def sweep(self) -> None:
        """Throw away uploads that nobody has come back to for a day."""
        with contextlib.suppress(FileNotFoundError):
            for place in list(self._folder.iterdir()):
                found = self._read(place.name)
                began = place.stat().st_mtime if found is None else found.created_at
                if began + KEPT_SECONDS < self._clock.now():
                    shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def _or_gone(place: Path) -> Iterator[None]:
    """Take a file that is missing for an upload that was cancelled meanwhile."""
    try:
        yield
    except FileNotFoundError:
        raise UploadNotFound(f"upload {place.name!r} was cancelled") from None


def _size(place: Path) -> int:
    """Bytes of all that lies there; other parts come, and get their names, meanwhile."""
    size = 0
    for entry in os.scandir(place):
        with contextlib.suppress(FileNotFoundError):
            size += entry.stat().st_size
    return size


async def _read_all(parts: Sequence[Path], md5: str | None) -> AsyncIterator[bytes]:
    """The content of the parts. Raises InvalidRequest at its end if its MD5 is another."""
    digest = hashlib.md5(usedforsecurity=False)
    for path in parts:
        with _or_gone(path.parent):
            file = await asyncio.to_thread(path.open, "rb")
        with file:
            while data := await asyncio.to_thread(_piece, file, digest):
                yield data
    if md5 is not None and digest.hexdigest() != md5.lower():
        raise _refusal("md5", f"the parts have the MD5 {digest.hexdigest()}")


def _piece(file: IO[bytes], digest: hashlib._Hash) -> bytes:
    data = file.read(_PIECE_BYTES)
    digest.update(data)
    return data


def _refusal(field: str, message: str) -> InvalidRequest:
    problem = FieldProblem(field, message, "every part of the file, in order")
    return InvalidRequest(f"{field}: {message}", problems=(problem,))
