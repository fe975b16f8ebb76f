"""Puts together what takes in datasets, checks them, and finds them for jobs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping

import structlog

from training_cluster.adapters.dataset_directory import DatasetDirectory
from training_cluster.adapters.dataset_directory.inspection import ProcessInspector
from training_cluster.domain.device import MIB
from training_cluster.domain.spec import GIB
from training_cluster.ports import Clock, Trainer
from training_cluster.services.awaited_datasets import AwaitedDatasets
from training_cluster.services.dataset_checks import DatasetChecks
from training_cluster.services.dataset_choice import DatasetChoice
from training_cluster.services.dataset_files import DatasetFiles
from training_cluster.services.datasets import Datasets
from training_cluster.services.disk import Disk
from training_cluster.services.handed_in import HandedIn
from training_cluster.services.part_uploads import PartUploads
from training_cluster.services.tokenizers import Tokenizers
from training_cluster.services.uploads import Uploads
from training_cluster.settings import Settings
from training_cluster.store import datasets, uploads
from training_cluster.store.database import Database

log = structlog.get_logger(__name__)

# what the worker's Python and its libraries need of the daemon's environment
_VARIABLES = frozenset(
    {
        *("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONPATH"),
        *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR"),
    }
)


class DatasetParts:
    """Everything that has to do with datasets. `loops` are to be started and stopped."""

    def __init__(
        self, settings: Settings, database: Database, trainer: Trainer, clock: Clock, disk: Disk
    ) -> None:
        self._database = database
        self._files = DatasetFiles(settings.state_dir / "datasets")
        folders = DatasetDirectory(settings.dataset_roots)
        inspector = ProcessInspector(_environment(os.environ))
        self.choice = DatasetChoice(database, self._files, folders)
        roots = settings.dataset_roots
        self.service = Datasets(database, self._files, folders, inspector, clock, disk, roots=roots)
        self.checks = DatasetChecks(
            *(database, self._files, inspector, clock),
            tokenizer_of=Tokenizers(settings.model_roots, os.environ).find,
            hub_url=settings.datasets.hub_url,
            keep_free_bytes=settings.disk.reserve_mib * MIB,
        )
        self.awaited = AwaitedDatasets(database, self.choice, trainer, clock, disk)
        most_bytes = int(settings.datasets.most_gib * GIB)
        parts_dir = settings.state_dir / "uploads"
        self.parts = PartUploads(parts_dir, self.service, clock, disk, most_bytes=most_bytes)
        self.service.on_new = self.checks.wake
        self.service.on_gone = self.checks.drop
        self.checks.on_checked = self._checked
        self.uploads = Uploads(
            database,
            self._files,
            self.service,
            clock,
            disk,
            kept_seconds=settings.datasets.unfinished_days * 86_400.0,
            most_bytes=most_bytes,
        )
        self.handed_in = HandedIn(database, self._files, self.service, self.uploads)
        self.loops = (self.checks, self.awaited, self.uploads)

    def _checked(self) -> None:
        self.service.tell()
        self.awaited.wake()

    async def sweep(self) -> None:
        """Remove what an earlier daemon left half done, before anything is received."""
        let_go = await self._database.read(datasets.files_let_go)
        expected = await self._database.read(datasets.in_check)
        expected |= await self._database.read(uploads.under_way)
        gone = await asyncio.to_thread(self._files.sweep, let_go, expected)
        await asyncio.to_thread(self.parts.sweep)
        if gone:
            log.info("removed what was left half done", action="dataset.swept", files=gone)


def _environment(ours: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in ours.items() if name in _VARIABLES}
