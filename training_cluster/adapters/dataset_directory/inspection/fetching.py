"""Brings the content of a dataset that was named by a path or by its place on a hub."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from training_cluster.adapters.dataset_directory.inspection.hub import Hub
from training_cluster.adapters.dataset_directory.inspection.reading import Source
from training_cluster.adapters.dataset_directory.refusal import refuse
from training_cluster.domain.dataset import DatasetOrigin
from training_cluster.domain.errors import InvalidDataset
from training_cluster.ports import InspectionTask


class NoRoom(Exception):
    """It does not fit on the disk now."""


def fetch(task: InspectionTask) -> None:
    """Have the content at `task.file`. Raises InvalidDataset and NoRoom."""
    if task.origin is DatasetOrigin.PATH:
        _copy(task)
    elif task.origin is DatasetOrigin.HUB:
        _download(task)


def _copy(task: InspectionTask) -> None:
    assert task.source is not None
    try:
        descriptor = os.open(task.source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as source:
            status = os.fstat(source.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise refuse(task.source, "is not a file", "a file with rows")
            require_room(task, status.st_size)
            with task.file.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
                os.fsync(target.fileno())
    except OSError as error:
        raise refuse(task.source, f"cannot be read ({error.strerror})", "a readable file") from None


def _download(task: InspectionTask) -> None:
    assert task.hub is not None
    with Hub(task.hub_url, task.hub_token) as hub, TemporaryDirectory(dir=task.folder) as folder:
        commit, files = hub.files(task.hub)
        require_room(task, 2 * sum(size for _, size in files))
        fetched = []
        for number, (name, _) in enumerate(files):
            fetched.append((name, Path(folder) / str(number)))
            hub.download(task.hub.dataset, commit, name, fetched[-1][1])
        if len(fetched) == 1:
            fetched[0][1].replace(task.file)
        else:
            _join(fetched, task.file)


def _join(parts: Iterable[tuple[str, Path]], target: Path) -> None:
    """Several files of one split become one file of lines."""
    with target.open("wb") as stream:
        for name, part in parts:
            for row in Source(part, name).rows():
                if isinstance(row, InvalidDataset):
                    raise refuse(name, row.message, "files whose rows can be read")
                stream.write(json.dumps(row.record, ensure_ascii=False).encode() + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def require_room(task: InspectionTask, size_bytes: int) -> None:
    """Raise NoRoom where so many bytes would not leave free what is to stay free."""
    free = shutil.disk_usage(task.file.parent).free
    if free < size_bytes + task.keep_free_bytes:
        raise NoRoom(f"{size_bytes} bytes of {task.source} do not fit on the disk now")
