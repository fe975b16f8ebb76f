"""Runs a script of ours with a real client against a daemon, and listens to what it tells.

A script tells one JSON object a line, each with a `step`; what the client itself prints is kept
apart. It can wait for a word of the test, so that a test may look at a job at that moment.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.clients.environments import ClientEnvironment

SCRIPTS = Path(__file__).parent / "scripts"
PATIENCE_SECONDS = 240.0
API_KEY = "a-client-insists-on-one"
_SHOWN = 6000


class Story(list[dict[str, Any]]):
    """What a script told, in order. `printed` is what came between, line by line."""

    def __init__(self) -> None:
        super().__init__()
        self.printed: list[str] = []

    @property
    def steps(self) -> list[str]:
        """The names of the steps, in order."""
        return [str(line["step"]) for line in self]

    def all(self, step: str) -> list[dict[str, Any]]:
        """Every line of a step."""
        return [line for line in self if line["step"] == step]

    def one(self, step: str) -> dict[str, Any]:
        """The only line of a step."""
        found = self.all(step)
        assert len(found) == 1, f"{step!r} was told {len(found)} times; there are {self.steps}"
        return found[0]


class Telling:
    """A script that runs."""

    def __init__(self, process: subprocess.Popen[str], errors: Path, seconds: float) -> None:
        self.story = Story()
        self._process = process
        self._errors = errors
        self._deadline = time.monotonic() + seconds
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def until(self, step: str) -> dict[str, Any]:
        """The next line of this step; fails when the script ends before."""
        while (line := self._next()) is not None:
            if line["step"] == step:
                return line
        raise AssertionError(f"the script ended without {step!r}:\n{self._shown()}")

    def say(self, **word: Any) -> None:
        """Answer a script that waits in `hear()`."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(word) + "\n")
        self._process.stdin.flush()

    def finish(self) -> Story:
        """Wait for the end, which must be a good one; returns all that was told."""
        while self._next() is not None:
            pass
        code = self._process.wait(timeout=max(1.0, self._deadline - time.monotonic()))
        assert code == 0, f"the script ended with {code}:\n{self._shown()}"
        return self.story

    def _next(self) -> dict[str, Any] | None:
        while True:
            try:
                line = self._lines.get(timeout=max(0.1, self._deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"the script says nothing more:\n{self._shown()}") from None
            if line is None:
                return None
            if (told := _as_told(line)) is not None:
                self.story.append(told)
                return told
            self.story.printed.append(line)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def _shown(self) -> str:
        said = self._errors.read_text(errors="replace")[-_SHOWN:]
        return f"it had told {self.story.steps}\nprinted {self.story.printed[-20:]}\n{said}"


class RealClient:
    """A real client: `version` is its own, `run` and `start` run scripts with it."""

    def __init__(self, environment: ClientEnvironment, folder: Path) -> None:
        self.environment = environment
        self._folder = folder

    @property
    def name(self) -> str:
        """As the recipes call it."""
        return self.environment.name

    @property
    def version(self) -> str:
        """The version that is installed."""
        return self.environment.version

    def run(
        self,
        script: str,
        url: str,
        *,
        key: str = API_KEY,
        seconds: float = PATIENCE_SECONDS,
        variables: Mapping[str, str] | None = None,
        **arguments: Any,
    ) -> Story:
        """Run a script of tests/clients/scripts to its end; returns what it told.

        `url` is the daemon's address without a path; `arguments` reach the script as they are,
        `variables` are added to its environment.
        """
        with self.start(
            script, url, key=key, seconds=seconds, variables=variables, **arguments
        ) as telling:
            return telling.finish()

    @contextmanager
    def start(
        self,
        script: str,
        url: str,
        *,
        key: str = API_KEY,
        seconds: float = PATIENCE_SECONDS,
        variables: Mapping[str, str] | None = None,
        **arguments: Any,
    ) -> Iterator[Telling]:
        """A script that runs while the block does; it is killed if it outlives that."""
        folder = self._room()
        errors = folder / "stderr"
        with errors.open("w") as stderr:
            process = subprocess.Popen(
                [str(self.environment.interpreter), str(self._placed(script, folder))],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True,
                cwd=folder,
                env={**self._variables(folder, url, key, arguments), **(variables or {})},
            )  # fmt: skip
        try:
            yield Telling(process, errors, seconds)
        finally:
            process.kill()
            process.communicate()

    def _room(self) -> Path:
        """An empty folder: home and working directory of one run."""
        number = len(list(self._folder.iterdir()))
        folder = self._folder / f"run-{number}"
        folder.mkdir()
        return folder

    def _placed(self, script: str, folder: Path) -> Path:
        # Node finds packages from where a script lies, Python from where it is told.
        if self.environment.modules is None:
            return SCRIPTS / script
        for file in SCRIPTS.glob("*.mjs"):
            shutil.copy(file, folder)
        (folder / "node_modules").symlink_to(self.environment.modules)
        return folder / script

    def _variables(
        self, folder: Path, url: str, key: str, arguments: Mapping[str, Any]
    ) -> dict[str, str]:
        url = url.rstrip("/")
        turned = {
            name: text.format(url=url, key=key) for name, text in self.environment.variables.items()
        }
        own = {"CLIENT_URL": url, "CLIENT_KEY": key, "CLIENT_ARGUMENTS": json.dumps(arguments)}
        machine = {"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder)}
        return {**machine, "PYTHONNOUSERSITE": "1", "PYTHONUNBUFFERED": "1", **turned, **own}


def _as_told(line: str) -> dict[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "step" in found else None
