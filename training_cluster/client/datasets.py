"""The client's part for datasets: handed in, looked at, downloaded, removed."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training_cluster.client.answers import Answer, read
from training_cluster.client.errors import ApiError, CannotConnect, ClientError, WaitTimedOut
from training_cluster.client.wire import Wire, path_of

_PIECE_BYTES = 1 << 20
_MOST_BREAKS = 6  # without a byte in between
_PAUSE_SECONDS = 1.0
_LOOK_SECONDS = 20.0
_PARTIAL, _NO_MORE = 206, 416
_PASSING = (408, 500, 502, 503, 504)

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Dataset(Answer):
    """A dataset version; `status` is checking, ready or invalid. Times are Unix seconds."""

    dataset_id: str
    number: int = 0
    name: str = ""
    version: str = ""
    key: str = ""
    user: str = ""
    status: str = ""
    origin: str = ""
    source: str | None = None
    filename: str = ""
    bytes: int = 0
    sha256: str | None = None
    format: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    rows: int | None = None
    validation_rows: int | None = None
    description: str = ""
    purpose: str | None = None
    is_public: bool = False
    created_at: float = 0.0
    ready_at: float | None = None
    error: str | None = None
    report: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Upload(Answer):
    """A file on its way: `received` of `size` bytes have come. Times are Unix seconds."""

    upload_id: str
    user: str = ""
    filename: str = ""
    received: int = 0
    size: int | None = None
    status: str = ""
    created_at: float = 0.0


class Datasets:
    """`client.datasets`: one method for each thing that can be done with datasets."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def add(
        self, file: str | Path, progress: Progress = lambda sent, total: None, **said: Any
    ) -> Dataset:
        """Hand a file in; when this returns it is durable and about to be checked. `said` are the
        fields of the API: name, version, format, columns, validation_fraction, ... A connection
        that breaks is taken up where it broke. `progress` hears of bytes sent and bytes in all."""
        return self.send(self.begin(file, **said).upload_id, file, progress)

    def begin(self, file: str | Path, **said: Any) -> Upload:
        """Announce a file; `said` is as for `add`. Nothing of it is sent."""
        path = Path(file)
        body = {"filename": path.name, "size": path.stat().st_size, **said}
        return read(Upload, self._wire.document("POST", "/uploads", body=body, repeatable=False))

    def send(
        self, upload_id: str, file: str | Path, progress: Progress = lambda sent, total: None
    ) -> Dataset:
        """Send what of a file has not come yet, in this process or in an earlier one."""
        path = Path(file)
        size = path.stat().st_size
        place = path_of("uploads", upload_id)
        offset, breaks = read(Upload, self._wire.document("GET", place)).received, 0
        while True:
            try:
                return self._put(place, path, offset, size, progress)
            except (CannotConnect, ApiError) as error:
                breaks += 1
                if breaks > _MOST_BREAKS or not _may_go_on(error):
                    raise
                time.sleep(_PAUSE_SECONDS)
            before, offset = offset, self._standing(place)
            breaks = 0 if offset > before else breaks

    def uploads(self) -> list[Upload]:
        """Uploads that are under way, newest first: one's own, for admins everybody's."""
        found = self._wire.document("GET", "/uploads", params={"limit": 1000})
        return [read(Upload, each) for each in found.get("uploads", ())]

    def give_up(self, upload_id: str) -> Upload:
        """Throw away what has come of an upload."""
        return read(Upload, self._wire.document("DELETE", path_of("uploads", upload_id)))

    def _put(self, place: str, path: Path, offset: int, size: int, progress: Progress) -> Dataset:
        """Send what is left, the last byte again where nothing is: its answer was lost."""
        first = min(offset, max(size - 1, 0))
        headers = {"Content-Length": str(size - first)}
        if size:
            headers["Content-Range"] = f"bytes {first}-{size - 1}/{size}"
        answered = self._wire.upload(place, _pieces(path, first, size, progress), headers)
        return read(Dataset, self._wire.parse(answered))

    def _standing(self, place: str) -> int:
        """How much has come; asked again while nobody answers."""
        for _ in range(_MOST_BREAKS):
            try:
                answered = self._wire.send("HEAD", place)
            except CannotConnect:
                time.sleep(_PAUSE_SECONDS)
            else:
                return self._wire.number(answered, "Upload-Offset")
        return self._wire.number(self._wire.send("HEAD", place), "Upload-Offset")

    def take(self, **said: Any) -> Dataset:
        """A dataset from where it lies: `path`, `hub` or `rows`, and the fields of `add`."""
        found = self._wire.document("POST", "/datasets/import", body=said, repeatable=False)
        return read(Dataset, found)

    def all(self, *, name: str | None = None, user: str | None = None) -> Iterator[Dataset]:
        """Versions, newest first."""
        asked: dict[str, Any] = {"name": name, "user": user, "limit": 100}
        while True:
            found = self._wire.document("GET", "/datasets", params=asked)
            yield from (read(Dataset, each) for each in found.get("datasets", ()))
            if not (cursor := found.get("next_cursor")):
                return
            asked["cursor"] = cursor

    def get(self, key: str, *, wait: float = 0.0) -> Dataset:
        """A version by id, number, `name@version`, or the newest of a name; after so many seconds
        at most if its check is still under way."""
        asked = {"wait": wait or None}
        return read(Dataset, self._wire.document("GET", _path(key), params=asked))

    def wait(self, key: str, timeout: float | None = None) -> Dataset:
        """A version once it was checked. Raises WaitTimedOut."""
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            left = _LOOK_SECONDS if until is None else until - time.monotonic()
            found = self.get(key, wait=max(0.0, min(left, _LOOK_SECONDS)))
            if found.status != "checking":
                return found
            if until is not None and time.monotonic() >= until:
                raise WaitTimedOut(f"dataset {key} is still being checked after {timeout:g} s")

    def preview(self, key: str, rows: int = 5) -> list[dict[str, Any]]:
        """The first rows as they are trained on."""
        found = self._wire.document("GET", _path(key, "preview"), params={"rows": rows})
        return list(found.get("rows", []))

    def download(self, key: str, file: str | Path) -> int:
        """Write the file as it came; what an earlier download left in `<file>.part` is gone on
        with. Returns how many bytes it has."""
        path = Path(file)
        part = path.with_name(f"{path.name}.part")
        found = self.get(key)
        resumed = part.exists()
        self._fetch(found.dataset_id, part)
        if found.sha256 is not None and _sha256(part) != found.sha256:
            part.unlink()
            if not resumed:
                raise ClientError(f"what came of {found.key} is not what was handed in: try again")
            self._fetch(found.dataset_id, part)  # what was there was of something else
        part.replace(path)
        return path.stat().st_size

    def _fetch(self, key: str, part: Path) -> None:
        known = part.stat().st_size if part.exists() else 0
        headers = {"Range": f"bytes={known}-"} if known else {}
        try:
            with self._wire.open(_path(key, "content"), params={}, headers=headers) as answered:
                goes_on = answered.status_code == _PARTIAL
                with part.open("ab" if goes_on else "wb") as target:
                    for data in answered.iter_bytes(_PIECE_BYTES):
                        target.write(data)
        except ApiError as error:
            if error.status != _NO_MORE:
                raise

    def set_public(self, key: str, *, is_public: bool) -> Dataset:
        """Let everybody read a version's rows, or its owner and admins only."""
        body = {"is_public": is_public}
        return read(Dataset, self._wire.document("PATCH", _path(key), body=body))

    def remove(self, key: str) -> Dataset:
        """Remove a version; refused while a job or a model refers to it."""
        return read(Dataset, self._wire.document("DELETE", _path(key)))


def _path(key: str, *more: str) -> str:
    return path_of("datasets", key, *more)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _may_go_on(error: ClientError) -> bool:
    """Whether the rest can be sent: the connection broke, or the daemon was busy with the part
    before."""
    if isinstance(error, ApiError):
        return error.code == "wrong_offset" or error.status in _PASSING
    return isinstance(error, CannotConnect)


def _pieces(path: Path, offset: int, size: int, progress: Progress) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(offset)
        while offset < size and (data := file.read(min(_PIECE_BYTES, size - offset))):
            offset += len(data)
            yield data
            progress(offset, size)
    if os.path.getsize(path) < size:
        raise ClientError(f"{path} became shorter while it was sent")
