"""Runs pip for an environment of ours: clean surroundings, a few readable lines, another try."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

_DOWNLOAD_TRIES = 3

# These would send packages elsewhere, hide what is there, or throw away finished downloads.
_MISLEADING = ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_REQUIRE_VIRTUALENV",
               "PIP_NO_CACHE_DIR", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")  # fmt: skip


class PinnedEnvironmentError(RuntimeError):
    """An environment cannot be made; the message says why and what to do."""


def run_pip(python: Path, log: Path, say: Callable[[str], None], *arguments: str) -> None:
    """Run `pip install` with these arguments, again when the network breaks; say how far it is.

    What pip prints goes to `log` as well. Raises PinnedEnvironmentError.
    """
    words = [str(python), "-I", "-m", "pip", "install", "--no-input", *arguments]
    for remaining in reversed(range(_DOWNLOAD_TRIES)):
        last_lines = _pip_once(words, log, say)
        if last_lines is None:
            return
        if remaining and _is_network_trouble(last_lines):
            say("the download broke; going on from what is here")
            continue
        raise PinnedEnvironmentError(
            f"pip failed: {_error_line(last_lines)}. The whole log is {log}. Run the same again: "
            "what is installed is kept"
        )


def _pip_once(words: list[str], log: Path, say: Callable[[str], None]) -> list[str] | None:
    """Run pip once; None when it worked, else the last lines it printed."""
    progress = _Progress(say)
    temporary = log.with_name("tmp")  # /tmp may be small; this disk was measured
    temporary.mkdir(exist_ok=True)
    tail: list[str] = []
    with (
        log.open("a", encoding="utf-8") as file,
        subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", env=clean_environment(),
        ) as process,
    ):  # fmt: skip
        for line in process.stdout or ():
            if not progress.take(line.strip()):
                file.write(line)
                tail = [*tail[-40:], line.strip()]
    shutil.rmtree(temporary, ignore_errors=True)
    return tail if process.returncode else None


class _Progress:
    """Turns pip's lines into a few that a person wants to read."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._name = ""
        self._said_at = time.monotonic()

    def take(self, line: str) -> bool:
        """Look at one line; True when it is only a progress count."""
        count = re.fullmatch(r"Progress (\d+) of (\d+)", line)
        if count is None:
            self._take_text(line)
            return False
        if time.monotonic() - self._said_at > 2:
            done, total = (int(number) / 1e6 for number in count.groups())
            self._tell(f"  {self._name}: {done:.0f} of {total:.0f} MB")
        return True

    def _take_text(self, line: str) -> None:
        if found := re.match(r"(Downloading|Using cached) (\S+)(?: \(([\d.]+ [MG]B)\))?", line):
            self._name = found[2].split("-")[0]
            if found[3]:
                package = re.split(r"-(?:cp|py)\d", found[2])[0]
                self._tell(f"  {found[1].lower()} {package} ({found[3]})")
        elif line.startswith("Installing collected packages:"):
            self._tell(f"  unpacking {line.count(',') + 1} packages")
        elif line.startswith(("ERROR:", "WARNING: Retrying")):
            self._tell(f"  {line}")

    def _tell(self, text: str) -> None:
        self._said_at = time.monotonic()
        self._say(text)


def _is_network_trouble(lines: list[str]) -> bool:
    words = "Connection|timed out|Timeout|Incomplete|ProtocolError|reset by peer|resolution"
    return any(re.search(words, line) for line in lines)


def _error_line(lines: list[str]) -> str:
    errors = [line for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["it printed nothing"])[-1].removeprefix("ERROR:").strip(" .")


def clean_environment() -> dict[str, str]:
    """Our environment without what would mislead pip or the new interpreter."""
    kept = {name: value for name, value in os.environ.items() if name not in _MISLEADING}
    return {**kept, "PYTHONUNBUFFERED": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def run_quietly(words: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a short command in that environment, its output captured."""
    return subprocess.run(
        words, capture_output=True, text=True, check=False, env=clean_environment()
    )
