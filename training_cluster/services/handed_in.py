"""What of the things people handed in can go: datasets nobody refers to, uploads that broke off."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

from training_cluster.domain.dataset import DatasetVersion
from training_cluster.domain.dataset_errors import UploadNotFound
from training_cluster.domain.prune import PruneItem, PruneKind
from training_cluster.services.dataset_files import DatasetFiles
from training_cluster.services.datasets import Datasets
from training_cluster.services.removal import measure
from training_cluster.services.uploads import Uploads
from training_cluster.store import datasets
from training_cluster.store.database import Database

_MOST = 1_000_000


class HandedIn:
    """Finds and removes; decides nothing about age or user."""

    def __init__(
        self, database: Database, files: DatasetFiles, made: Datasets, uploads: Uploads
    ) -> None:
        self._database = database
        self._files = files
        self._datasets = made
        self._uploads = uploads

    async def find(self, kind: PruneKind, before: float, user: str | None) -> list[PruneItem]:
        """What came at `before` or earlier (Unix seconds), of one user or of all."""
        if kind is PruneKind.UPLOADS:
            return await self._broken_off(before, user)
        unused = await self._database.read(lambda c: datasets.unused(c, before, user))
        gone = {version.id for version in unused}
        kept = await self._database.read(lambda c: datasets.files_in_use(c, but=gone))
        return await asyncio.to_thread(lambda: list(self._freed(unused, kept)))

    def _freed(self, unused: list[DatasetVersion], kept: set[str]) -> Iterable[PruneItem]:
        """Each with the bytes of those files that no version that stays, or stood before, has."""
        for version in unused:
            own = version.files - kept
            kept |= own
            yield PruneItem(
                kind=PruneKind.DATASETS,
                user=version.user,
                name=version.label,
                key=version.id,
                path=self._relative(self._files.stored(version.original or version.id)),
                bytes=sum(measure(self._files.stored(name)) for name in own),
            )

    async def _broken_off(self, before: float, user: str | None) -> list[PruneItem]:
        found = await self._uploads.unfinished(user, _MOST)
        return [
            PruneItem(
                kind=PruneKind.UPLOADS,
                user=each.user,
                name=each.asked.filename or each.id,
                key=each.id,
                path=self._relative(self._files.incoming(each.id)),
                bytes=each.received_bytes,
            )
            for each in found
            if each.created_at <= before
        ]

    def _relative(self, path: Path) -> str:
        return str(path.relative_to(self._files.folder.parent))

    async def remove(self, item: PruneItem) -> bool:
        """False where it has gone, or is used by now."""
        if item.kind is PruneKind.DATASETS:
            return await self._datasets.prune(item.key)
        try:
            await self._uploads.cancel(item.key)
        except UploadNotFound:
            return False
        return True
