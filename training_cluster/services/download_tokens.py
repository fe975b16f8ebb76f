"""Tokens for the model hub that somebody gave for one download: a file each that only the daemon's
user can read, gone when the download is over. They are in no row, command line or answer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
from collections.abc import Sequence
from pathlib import Path

from training_cluster.domain.event import ENDINGS, Event
from training_cluster.store.facts import Fact

_REF = re.compile(r"[0-9a-f]{32}")


class DownloadTokens:
    """A folder of tokens, named by chance; jobs hold the names."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._of_jobs: dict[str, str] = {}

    async def keep(self, token: str) -> str:
        """Write a token into a file of its own; returns its name."""
        return await asyncio.to_thread(self._keep, token)

    def _keep(self, token: str) -> str:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = secrets.token_hex(16)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with open(os.open(self._folder / name, flags, 0o600), "w", encoding="ascii") as file:
            file.write(token)
        return name

    def belongs(self, name: str, job_id: str) -> None:
        """Have a token go when this job is over."""
        self._of_jobs[job_id] = name

    def forget(self, name: str) -> None:
        """Remove a token; harmless when it is gone."""
        if _REF.fullmatch(name):
            with contextlib.suppress(OSError):
                (self._folder / name).unlink()

    def over(self, job_id: str) -> None:
        """A job is over: its token goes, if it has one."""
        self.forget(self._of_jobs.pop(job_id, ""))

    def notice(self, facts: Sequence[Fact]) -> None:
        """Told of every commit: the tokens of jobs that have ended go."""
        for fact in facts if self._of_jobs else ():
            if isinstance(fact, Event) and fact.type in ENDINGS and fact.job_id is not None:
                self.over(fact.job_id)

    async def sweep(self, held: dict[str, str]) -> None:
        """Know the tokens that jobs hold, by the jobs' ids, and remove all others: to be called
        while nobody asks for downloads."""
        self._of_jobs.update(held)
        await asyncio.to_thread(self._remove_others, set(held.values()))

    def _remove_others(self, names: set[str]) -> None:
        if self._folder.is_dir():
            for path in self._folder.iterdir():
                if path.name not in names:
                    self.forget(path.name)
