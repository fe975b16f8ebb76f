"""Has every new dataset checked by the inspector, and keeps what it makes and finds."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import structlog

from training_cluster.crash_points import crash_point
from training_cluster.domain.dataset import DatasetOrigin, DatasetState, DatasetVersion, Split
from training_cluster.domain.dataset_errors import InspectorDied
from training_cluster.domain.errors import TrainingClusterError
from training_cluster.ports import Clock, DatasetInspector, Findings, InspectionTask
from training_cluster.services import held_out
from training_cluster.services.dataset_files import DatasetFiles
from training_cluster.services.hub_tokens import HubTokens
from training_cluster.services.loop import Loop
from training_cluster.store import datasets
from training_cluster.store.database import Database

log = structlog.get_logger(__name__)

_AT_ONCE = 2
_LOOKED_AT = 64
_MOST_DEATHS = 3
_AGAIN_SECONDS = 30.0
_FETCHED = (DatasetOrigin.PATH, DatasetOrigin.HUB)


class DatasetChecks(Loop):
    """Woken by a new dataset. `on_checked` is called when one is ready or invalid, `tokenizer_of`
    says where the tokenizer of a model lies, if it is on this machine."""

    name = "dataset checks"

    def __init__(
        self,
        database: Database,
        files: DatasetFiles,
        inspector: DatasetInspector,
        clock: Clock,
        *,
        tokenizer_of: Callable[[str], Path | None] = lambda model: None,
        hub_url: str = "",
        keep_free_bytes: int = 0,
    ) -> None:
        super().__init__()
        self._database = database
        self._files = files
        self._inspector = inspector
        self._clock = clock
        self._tokenizer_of = tokenizer_of
        self._hub_url = hub_url
        self._keep_free_bytes = keep_free_bytes
        self._tokens = HubTokens(files.tokens)
        self._checking: dict[str, asyncio.Task[None]] = {}
        self._deaths: Counter[str] = Counter()
        self.on_checked: Callable[[], None] = lambda: None

    def delay(self) -> float | None:
        """A look now and then, for a check that could not be made."""
        return _AGAIN_SECONDS

    async def run_once(self) -> None:
        """Begin to check what waits for it, two at a time."""
        waiting = await self._database.read(lambda c: datasets.to_check(c, _LOOKED_AT))
        for version in waiting:
            if len(self._checking) >= _AT_ONCE:
                return
            if version.id not in self._checking:
                task = asyncio.create_task(self._check(version), name=f"check {version.label}")
                self._checking[version.id] = task

    def drop(self, dataset_id: str) -> None:
        """End the check of a version that was deleted, if it is under way."""
        if (task := self._checking.get(dataset_id)) is not None:
            task.cancel()

    async def stop(self) -> None:
        """End; what is being checked is checked anew by the next daemon."""
        await super().stop()
        for task in self._checking.values():
            task.cancel()
        if self._checking:
            await asyncio.wait(self._checking.values())

    async def _check(self, version: DatasetVersion) -> None:
        done = True
        try:
            done = await self._inspect(version)
        except InspectorDied as error:
            done = await self._bury(version, error)
        except TrainingClusterError as error:
            done = False
            why = {"why": error.message, "dataset": version.label}
            log.warning("not checked yet", action="dataset.unchecked", **why)
        except Exception:
            done = False
            log.exception("not checked yet", action="dataset.unchecked", dataset=version.label)
        finally:
            del self._checking[version.id]
            if done:
                self.wake()

    async def _bury(self, version: DatasetVersion, error: InspectorDied) -> bool:
        """Give a dataset up over which the inspector died again and again; False before that."""
        self._deaths[version.id] += 1
        facts = {"why": error.message, "dataset": version.label}
        log.warning("not checked yet", action="dataset.unchecked", **facts)
        if self._deaths[version.id] < _MOST_DEATHS:
            return False
        await self._store(replace(version, error=f"it cannot be read: {error.message}"))
        await asyncio.to_thread(self._files.forget, version.id)
        del self._deaths[version.id]
        self.on_checked()
        return True

    async def _inspect(self, version: DatasetVersion) -> bool:
        """False when another has to be checked before."""
        other = await self._other(version)
        if other is not None and other.state is DatasetState.CHECKING:
            return False
        if not await asyncio.to_thread(self._is_there, version):
            await self._store(replace(version, error="its content is not there any more"))
            self.on_checked()
            return True
        task = await asyncio.to_thread(self._described, version)
        try:
            findings = await self._look(task, version, other)
        except BaseException:
            await asyncio.shield(asyncio.to_thread(self._files.clear, version.id))
            raise
        found = _found(version, findings)
        if task.tokenizer is None and version.asked.model:
            found = _without_tokens(found, version.asked.model)
        async with self._files.changing:
            other = await self._other(version)
            if other is not None and other.deleted_at is not None:
                found = replace(version, error=f"{other.label}, which validates it, was deleted")
            else:
                await asyncio.to_thread(self._publish, task, findings)
            crash_point("dataset.published")
            await self._store(found)
        await asyncio.to_thread(self._files.forget, version.id)
        await asyncio.to_thread(self._tokens.remove, version.id)
        facts = {"dataset": version.label, "state": "invalid" if found.error else "ready"}
        log.info("checked", action="dataset.checked", **facts)
        self.on_checked()
        return True

    async def _look(
        self, task: InspectionTask, version: DatasetVersion, other: DatasetVersion | None
    ) -> Findings:
        inspect, stored = self._inspector.inspect, self._files.stored
        findings = await inspect(task)
        if other is None or findings.error is not None:
            return findings
        return await held_out.against(other, findings, task, version.user, inspect, stored)

    def _is_there(self, version: DatasetVersion) -> bool:
        """Not where a backup was put back that is older than the files."""
        return version.origin in _FETCHED or self._files.incoming(version.id).exists()

    async def _store(self, found: DatasetVersion) -> None:
        """Keep what was found; the files go again if the version was deleted in the meantime."""
        now = self._clock.now()
        mark = datasets.mark_invalid if found.error else datasets.mark_ready
        if await self._database.write(lambda c: mark(c, found, now)):
            return
        in_use = await self._database.read(datasets.files_in_use)
        await asyncio.to_thread(self._files.remove, found.files - in_use)

    async def _other(self, version: DatasetVersion) -> DatasetVersion | None:
        """The dataset whose rows validate this one."""
        key = version.asked.validation
        if not isinstance(key, str):
            return None
        return await self._database.read(lambda c: datasets.ever(c, key))

    def _described(self, version: DatasetVersion) -> InspectionTask:
        asked = version.asked
        return InspectionTask(
            file=self._files.incoming(version.id),
            filename=version.filename,
            folder=self._files.workplace(version.id),
            format=asked.format,
            columns=asked.columns,
            split=asked.validation if isinstance(asked.validation, Split) else None,
            tokenizer=self._tokenizer_of(asked.model) if asked.model else None,
            origin=version.origin,
            source=asked.source,
            hub=asked.hub,
            hub_url=self._hub_url,
            hub_token=self._tokens.read(version.id) if asked.hub else None,
            keep_free_bytes=self._keep_free_bytes,
        )

    def _publish(self, task: InspectionTask, findings: Findings) -> None:
        if findings.original is None:
            return
        self._files.publish(task.file, findings.original)
        for made in task.folder.iterdir():
            if made.name in (findings.train_file, findings.validation_file):
                self._files.publish(made, made.name)


def _without_tokens(found: DatasetVersion, model: str) -> DatasetVersion:
    report = dict(found.report or {})
    said = f"no tokens were counted: the tokenizer of {model} is not on this machine"
    return replace(found, report={**report, "notes": [said]})


def _found(version: DatasetVersion, findings: Findings) -> DatasetVersion:
    """The version as it is to be stored."""
    return replace(
        version,
        bytes=findings.bytes,
        sha256=findings.sha256,
        original=findings.original,
        report=findings.report,
        error=findings.error,
        format=findings.format,
        columns=findings.columns,
        rows=findings.rows,
        validation_rows=findings.validation_rows,
        train_file=findings.train_file,
        validation_file=findings.validation_file,
    )
