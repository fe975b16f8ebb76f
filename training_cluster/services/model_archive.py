"""A model's files as they are handed out: one by one, or as a zip that is made while it is sent.

Weights are stored as they are: they do not compress, and the size is known before the first byte.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from training_cluster.domain.errors import NotFound, Pruned
from training_cluster.domain.model import Model
from training_cluster.services.model_card import card

CARD_NAME = "README.md"
_CHUNK_BYTES = 1 << 20
_LONGEST_README_BYTES = 1 << 20
# what a checkpoint holds to go on training, and what it does not take to use the model
_LEFT_OUT = ("optimizer", "scheduler", "rng_state", "scaler", "global_step", "training_args")


@dataclass(frozen=True, slots=True)
class Archive:
    """A zip on its way: its name, its size in bytes, and its content, to be read on a thread."""

    name: str
    size_bytes: int
    chunks: Iterator[bytes]


def files_of(model: Model) -> dict[str, int]:
    """Bytes of each file that is handed out, by name; links are none of them. Raises Pruned when
    the files are gone."""
    folder, found = Path(model.path), {}
    for name in model.files:
        status = _look(folder / name)
        if status is not None and not name.startswith(_LEFT_OUT):
            found[name] = status.st_size
    if not found:
        raise Pruned(f"the files of model {model.key} are gone")
    return found


def file_of(model: Model, name: str) -> FileIO:
    """One file, opened. Raises NotFound, and Pruned when it is gone."""
    if name not in files_of(model):
        hint = "GET /models/{key} lists them"
        raise NotFound(f"model {model.key} has no file {name!r}", hint=hint)
    return _open_of(model, name)


def card_of(model: Model) -> str:
    """The card, with what the trainer wrote if it wrote any."""
    try:
        with _open(Path(model.path) / CARD_NAME) as file:
            written = file.read(_LONGEST_README_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return card(model, None)
    return card(model, written)


def archive_of(model: Model) -> Archive:
    """All files in one folder, with the card in place of the trainer's own."""
    import zipstream  # most daemons never hand out a model

    sizes = files_of(model)
    title = f"{model.name}-{model.version}"
    packed = zipstream.ZipStream(sized=True)
    packed.add(card_of(model), f"{title}/{CARD_NAME}")
    opened = {name: _open_of(model, name) for name in sizes if name != CARD_NAME}
    for name, file in opened.items():
        packed.add(_read(file, sizes[name]), f"{title}/{name}", size=sizes[name])
    return Archive(f"{title}.zip", len(packed), _closing(packed, opened.values()))


def _look(path: Path) -> os.stat_result | None:
    try:
        status = path.lstat()
    except (OSError, ValueError):
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def _open(path: Path) -> FileIO:
    """Not what a link leads to."""
    return FileIO(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC))


def _open_of(model: Model, name: str) -> FileIO:
    try:
        return _open(Path(model.path) / name)
    except FileNotFoundError:
        raise Pruned(f"the files of model {model.key} are gone") from None


def _read(file: FileIO, size: int) -> Iterator[bytes]:
    """So many bytes of a file. Raises OSError when it has become shorter."""
    left = size
    while left:
        chunk = file.read(min(_CHUNK_BYTES, left))
        if not chunk:
            raise OSError("a file of the model ended early")
        left -= len(chunk)
        yield chunk


def _closing(chunks: Iterable[bytes], files: Iterable[FileIO]) -> Iterator[bytes]:
    """A download comes whole though the model is deleted meanwhile: its files stay open."""
    try:
        yield from chunks
    finally:
        for file in files:
            file.close()
