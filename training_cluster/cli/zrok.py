"""The zrok program: which one is here, how it is told to share, and what its lines say.

Version 1 is called `zrok`, version 2 `zrok2`. Both say the address in a line of their log, which is
JSON or text; version 2 leaves the scheme out.
"""

from __future__ import annotations

import ctypes
import io
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field

from training_cluster.cli import terminal
from training_cluster.cli.credentials import FILE_VARIABLE, TOKEN_VARIABLE
from training_cluster.domain.errors import TrainingClusterError

INSTALL_PAGE = "https://docs.zrok.io/docs/guides/install/"
REFUSED_FOR_GOOD = 2  # the exit status by which zrok 2 says that trying again is in vain
_PROGRAMS = ("zrok2", "zrok")
_IS_ENABLED = "<<SET>>"  # in `status`, in place of the account's token
_LOCAL_ONLY = "--force-local"  # else an agent that runs takes the share over, and keeps it
_SECONDS = 30
_END_SECONDS = 10
_ADDRESS_FOLLOWS = re.compile(r"access your zrok share[^:]*:")
_HOST = re.compile(r"(https?://)?[a-z0-9-]+(\.[a-z0-9-]+)+(:\d+)?/?", re.IGNORECASE)
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_libc = ctypes.CDLL(None)


class CannotShare(TrainingClusterError):
    """The daemon cannot be shared."""

    code = "cannot_share"


@dataclass(frozen=True, slots=True)
class Zrok:
    """A zrok that is installed and enabled."""

    program: str

    @classmethod
    def find(cls) -> Zrok:
        """The one to use. Raises CannotShare when none is installed, or none is enabled."""
        there = [path for name in _PROGRAMS if (path := shutil.which(name))]
        if not there:
            raise CannotShare("zrok is not installed", hint=f"how to: {INSTALL_PAGE}")
        for path in there:
            if _IS_ENABLED in _output(path, "status"):
                return cls(path)
        name = os.path.basename(there[0])
        raise CannotShare(
            f"{name} is installed, but not enabled for this user",
            hint=f"`{name} invite` makes an account, `{name} enable` takes its token",
        )

    def command(self, target: str, name: str | None) -> list[str]:
        """Shares `target` until it is ended; under a reserved `name` if one is given."""
        if name is None:
            words = ["public", target]
        elif os.path.basename(self.program) == "zrok2":
            words = ["public", target, "--name-selection", name]
        else:  # a reservation has a target of its own, which need not be ours
            words = ["reserved", name, "--override-endpoint", target]
        command = [self.program, "share", *words, "--headless"]
        knows = _LOCAL_ONLY in _output(self.program, "share", words[0], "--help")
        return [*command, _LOCAL_ONLY] if knows else command


def _output(*command: str) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, check=False,
            stdin=subprocess.DEVNULL, errors="replace", env=_environment(),
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotShare(f"{' '.join(command)}: {error}") from error
    return done.stdout + done.stderr


class Share:
    """A zrok that shares: a process group of its own, which does not outlive this process."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=_environment(), start_new_session=True, preexec_fn=_end_with_parent,
        )  # fmt: skip
        assert isinstance(self._process.stdout, io.BufferedReader)
        self.output = self._process.stdout

    def wait(self) -> int:
        """Its exit status, once it has closed its output."""
        return self._process.wait()

    def end(self) -> None:
        """Have it take the share back and end; may be called twice."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self.output.close()


def _environment() -> dict[str, str]:
    """zrok has no use for our token."""
    ours = (TOKEN_VARIABLE, FILE_VARIABLE)
    return {name: value for name, value in os.environ.items() if name not in ours}


def _end_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@dataclass(slots=True)
class Reader:
    """Makes sense of zrok's lines, one after the other."""

    complaint: str = ""
    _awaits: bool = field(default=False, init=False)
    _is_told: bool = field(default=False, init=False)

    def addresses(self, line: str) -> list[str]:
        """The public addresses a line tells. A line that complains is kept as `complaint`.

        Once they are told nothing counts as one: later lines quote what strangers ask for."""
        level, text = _parsed(terminal.clean(line).strip())
        if level in ("error", "fatal", "panic", "warning", "warn"):
            self.complaint = text
        found = None if self._is_told else _ADDRESS_FOLLOWS.search(text)
        if found is None and not self._awaits:
            return []
        told = list(_hosts(text[found.end() :] if found else text))
        self._awaits, self._is_told = found is not None and not told, bool(told)
        return told


def _parsed(line: str) -> tuple[str, str]:
    """Level and text of a line of the log, in either form."""
    if line.startswith("{"):
        try:
            said = json.loads(line)
            return str(said.get("level", "")).lower(), str(said.get("msg", ""))
        except (ValueError, AttributeError):
            pass
    level = re.match(r"(?:\[[^\]]*\]:?\s*)?\[?(ERROR|FATAL|WARNING|PANIC|WARN)\b", line)
    return (level[1].lower() if level else ""), line.removeprefix("[ERROR]: ")


def _hosts(text: str) -> Iterator[str]:
    for word in text.split():
        if _HOST.fullmatch(word):
            yield word if "://" in word else f"https://{word}"
