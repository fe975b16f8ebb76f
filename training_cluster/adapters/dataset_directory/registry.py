"""Finds dataset versions in folders and remembers each verdict while the files are unchanged."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path

from training_cluster.adapters.dataset_directory import manifest as manifests
from training_cluster.adapters.dataset_directory.checking import check_version
from training_cluster.adapters.dataset_directory.folder import Stamp, VersionFolder, stamp
from training_cluster.adapters.dataset_directory.refusal import did_you_mean, refuse
from training_cluster.adapters.dataset_directory.rows import LARGEST_ARRAY_BYTES
from training_cluster.domain.errors import FieldProblem, InvalidDataset, UnknownDataset
from training_cluster.ports import Dataset

_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MOST_VERSIONS_NAMED = 20


@dataclass(frozen=True, slots=True)
class _Known:
    """The verdict on a version, good while every file it rests on keeps its stamp."""

    stamps: tuple[tuple[str, Stamp], ...]
    verdict: Dataset | InvalidDataset

    def is_current(self) -> bool:
        return all(stamp(path) == before for path, before in self.stamps)

    def dataset(self) -> Dataset:
        if isinstance(self.verdict, Dataset):
            return self.verdict
        # a fresh one each time: a raised exception keeps the traceback of whoever met it
        known = self.verdict
        raise InvalidDataset(known.message, problems=known.problems, hint=known.hint)


class DatasetDirectory:
    """The dataset versions below some root folders; the first root that has a version wins.

    May be used from many threads; a version is checked by one of them at a time.
    """

    def __init__(
        self, roots: tuple[Path, ...], *, largest_array_bytes: int = LARGEST_ARRAY_BYTES
    ) -> None:
        self._roots = tuple(os.path.abspath(root) for root in roots)
        self._largest_array_bytes = largest_array_bytes
        self._known: dict[str, _Known] = {}
        self._checking: dict[str, threading.Lock] = {}

    def versions(self) -> tuple[str, ...]:
        """All registered version names, sorted; their content is not looked at."""
        found: set[str] = set()
        for root in self._roots:
            with contextlib.suppress(OSError):
                found.update(name for name in os.listdir(root) if _is_version(root, name))
        return tuple(sorted(found))

    def resolve(self, version: str) -> Dataset:
        """The checked dataset; a few stat calls when nothing changed since the last time."""
        root = next((root for root in self._roots if _is_version(root, version)), None)
        if root is None:
            raise self._unknown(version)
        key = f"{root}/{version}"
        known = self._known.get(key)
        if known is None or not known.is_current():
            with self._checking.setdefault(key, threading.Lock()):
                known = self._known.get(key)
                if known is None or not known.is_current():
                    known = self._known[key] = self._judge(VersionFolder(root, version))
        return known.dataset()

    def _judge(self, folder: VersionFolder) -> _Known:
        before = {path: stamp(path) for path in [folder.path(manifests.NAME)]}
        verdict: Dataset | InvalidDataset
        try:
            with folder.open(manifests.NAME) as stream:
                content = stream.read(manifests.LARGEST_BYTES + 1)
            manifest = manifests.read_manifest(content, folder.where(manifests.NAME))
            before |= {path: stamp(path) for path in map(folder.path, manifest.files)}
            verdict = check_version(folder, manifest, content, self._largest_array_bytes)
        except InvalidDataset as refusal:
            verdict = refusal.with_traceback(None)
        known = _Known(tuple(before.items()), verdict)
        if not known.is_current():
            raise refuse(folder.version, "was changed while it was read", "files at rest")
        return known

    def _unknown(self, version: str) -> UnknownDataset:
        existing = self.versions()
        listed = ", ".join(existing[:_MOST_VERSIONS_NAMED]) or "none"
        if len(existing) > _MOST_VERSIONS_NAMED:
            listed += f" and {len(existing) - _MOST_VERSIONS_NAMED} more"
        found = f"{version[:64]!r} is not a registered dataset version"
        found += did_you_mean(version[:64], existing)
        return UnknownDataset(
            f"{found}; registered: {listed}",
            problems=(FieldProblem("dataset_version", found, f"one of: {listed}"),),
            hint=f"A version is a folder with a {manifests.NAME} below a dataset root.",
        )


def _is_version(root: str, name: str) -> bool:
    return bool(_VERSION.fullmatch(name)) and os.path.isfile(f"{root}/{name}/{manifests.NAME}")
