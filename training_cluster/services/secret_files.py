"""Addresses and signing secrets of webhooks: one file each that only the daemon's user can read.

They are never in the database, which is copied, dumped and looked into."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

_SUFFIX = ".json"
_HALF_WRITTEN = ".new"


@dataclass(frozen=True, slots=True)
class Secret:
    """What signs notifications. A replaced one signs along until `expires_at` (Unix seconds)."""

    text: str = field(repr=False)
    expires_at: float | None = None

    def signs_at(self, now: float) -> bool:
        """Whether it is still in use."""
        return self.expires_at is None or now < self.expires_at


@dataclass(frozen=True, slots=True)
class Address:
    """Where a webhook's notifications go and what signs them, the newest secret first."""

    url: str = field(repr=False)
    secrets: tuple[Secret, ...] = field(default=(), repr=False)


class SecretFiles:
    """One file a webhook, in a folder of its own. What is written is durable."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def write(self, webhook_id: str, address: Address) -> None:
        """Keep an address, in place of the one that was there."""
        await asyncio.to_thread(self._write, webhook_id, _to_json(address))

    async def read(self, webhook_id: str) -> Address | None:
        """The address of a webhook; None when it has none."""
        return await asyncio.to_thread(self._read, webhook_id)

    async def remove(self, webhook_id: str) -> None:
        """Forget an address; harmless when there is none."""
        await asyncio.to_thread(self._path(webhook_id).unlink, missing_ok=True)

    async def remove_orphans(self, known: set[str]) -> int:
        """Forget the addresses of webhooks that do not exist; returns how many there were.

        To be called while nobody makes webhooks: the file of a new one is there before its row."""
        return await asyncio.to_thread(self._remove_orphans, known)

    def _path(self, webhook_id: str) -> Path:
        return self._folder / f"{webhook_id}{_SUFFIX}"

    def _write(self, webhook_id: str, text: str) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(_HALF_WRITTEN, dir=self._folder)  # mode 0600
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(descriptor)
            os.replace(name, self._path(webhook_id))
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
            raise
        _sync_folder(self._folder)

    def _read(self, webhook_id: str) -> Address | None:
        try:
            return _from_json(self._path(webhook_id).read_text("utf-8"))
        except FileNotFoundError:
            return None

    def _remove_orphans(self, known: set[str]) -> int:
        if not self._folder.is_dir():
            return 0
        removed = 0
        for path in self._folder.iterdir():
            owned = path.suffix == _SUFFIX and path.stem in known
            if not owned:
                path.unlink(missing_ok=True)
                removed += 1
        return removed


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _to_json(address: Address) -> str:
    secrets = [{"secret": s.text, "expires_at": s.expires_at} for s in address.secrets]
    return json.dumps({"url": address.url, "secrets": secrets})


def _from_json(text: str) -> Address:
    content = json.loads(text)
    secrets = (Secret(item["secret"], item["expires_at"]) for item in content["secrets"])
    return Address(content["url"], tuple(secrets))
