"""What an environment is: where it lives, whether it may be used, and what a look inside finds.

Its directory is named by the hash of its pins, so that every clone with the same pins shares one
copy. `complete.json` is written last; without it an environment we began is never used.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from training_cluster.pinned_environment.making import make, marker, python
from training_cluster.pinned_environment.pins import identity
from training_cluster.pinned_environment.pip import clean_environment, run_quietly
from training_cluster.resources import shipped

_CHECK_TIMEOUT_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Check:
    """One finding about an environment."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class PinnedEnvironment:
    """One kind of environment: its name for people, its pins, and how to look into it.

    `folder` is below the data directory. `modules` are the ones by which an environment that
    somebody else made is recognised. `probe` is a program for the environment's Python that prints
    one JSON list `[name, ok, detail]` a line.
    """

    title: str
    folder: str
    requirements: str
    needed_bytes: int
    install_command: str
    modules: tuple[str, ...]
    probe: str

    def path(self, data_dir: Path, requirements: Path | None = None) -> Path:
        """Where the environment of these pins belongs, made or not."""
        return data_dir / self.folder / identity(requirements or shipped(self.requirements))

    def is_complete(self, path: Path) -> bool:
        """Whether programs may be started from here: an environment that `install` finished, or
        one somebody else made that has the modules."""
        if not os.access(python(path), os.X_OK):
            return False
        if (path / "complete.json").is_file():
            return True
        return not marker(path).exists() and self._has_modules(path)

    def install(
        self, data_dir: Path, say: Callable[[str], None], *, requirements: Path | None = None
    ) -> Path:
        """Make the environment unless it is complete already; returns its path.

        Safe to call at once from several processes and again after a failure: what was downloaded
        and installed is kept. Raises PinnedEnvironmentError and OSError.
        """
        pins = requirements or shipped(self.requirements)
        path = self.path(data_dir, pins)
        if self.is_complete(path):
            say(f"{self.title} is complete: {path}")
            return path
        path.mkdir(parents=True, exist_ok=True)
        with self._only_installer(path, say):
            if not self.is_complete(path):
                make(path, pins, say, title=self.title, needed_bytes=self.needed_bytes)
        return path

    def check(self, path: Path) -> list[Check]:
        """Import in the environment what its programs import, and report; takes some seconds."""
        interpreter = python(path)
        if not os.access(interpreter, os.X_OK):
            why = f"{interpreter} is not there; `{self.install_command}` makes it"
            return [Check("python", False, why)]
        try:
            done = subprocess.run(
                [interpreter, "-I", "-W", "ignore", "-c", self.probe],
                capture_output=True, text=True, timeout=_CHECK_TIMEOUT_SECONDS, check=False,
                env=clean_environment(),
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            return [Check("python", False, str(error))]
        lines = (line for line in done.stdout.splitlines() if line.startswith("["))
        findings = [Check(*json.loads(line)) for line in lines]
        if done.returncode or not findings:
            said = done.stderr.strip()[-500:] or "python crashed"
            findings.append(Check("imports", False, said))
        return findings

    def _has_modules(self, path: Path) -> bool:
        find = f"all(u.find_spec(name) for name in {self.modules!r})"
        code = f"import importlib.util as u; raise SystemExit(not {find})"
        try:
            return run_quietly([str(python(path)), "-I", "-c", code]).returncode == 0
        except OSError:
            return False

    @contextmanager
    def _only_installer(self, path: Path, say: Callable[[str], None]) -> Iterator[None]:
        lock = FileLock(path.with_name(path.name + ".lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say(f"somebody else is installing the {self.title}: waiting for that")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()
