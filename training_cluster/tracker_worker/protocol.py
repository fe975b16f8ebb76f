"""What goes over the pipes: one JSON object a line, requests in, answers out."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator
from typing import Any, BinaryIO

Request = dict[str, Any]


class Failure(Exception):
    """A request that was not done; `kind` is the word that goes over the pipe."""

    kind = "unavailable"


class Unavailable(Failure):
    """It may work later."""


class Refused(Failure):
    """It will never work as it is."""

    kind = "refused"


class Broken(Unavailable):
    """This process is of no use any more; another one may do it."""


class Channel:
    """The pipes to the daemon, taken away from everybody else in this process."""

    def __init__(self, requests: BinaryIO, answers: int) -> None:
        self._requests = requests
        self._answers = answers
        self._writing = threading.Lock()

    @classmethod
    def of_this_process(cls) -> Channel:
        """Take stdin and stdout. What a library prints goes to stderr from now on, also what the
        processes it starts print."""
        requests, answers = os.fdopen(os.dup(0), "rb"), os.dup(1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(2, 1)
        os.close(nothing)
        return cls(requests, answers)

    def requests(self) -> Iterator[Request]:
        """Every request, until the daemon closes the pipe or is gone. A torn last line is none."""
        for line in self._requests:
            with contextlib.suppress(ValueError):
                yield json.loads(line)

    def succeed(self, request: Request, result: dict[str, Any]) -> None:
        """Answer a request that was done."""
        self._answer({"id": request["id"], "ok": result})

    def fail(self, request: Request, failure: Failure) -> None:
        """Answer a request that was not done."""
        error = {"kind": failure.kind, "message": str(failure)}
        self._answer({"id": request["id"], "error": error})

    def _answer(self, content: dict[str, Any]) -> None:
        line = json.dumps(content).encode() + b"\n"
        with self._writing, contextlib.suppress(BrokenPipeError):  # the end of stdin follows
            while line:
                line = line[os.write(self._answers, line) :]
