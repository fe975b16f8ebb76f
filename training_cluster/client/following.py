"""Follows a job to its end: its state by polling, its log attempt after attempt.

A daemon that is restarted meanwhile costs a job nothing, so it costs no follower anything either.
"""

from __future__ import annotations

import codecs
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from training_cluster.client.answers import Job
from training_cluster.client.errors import CannotConnect, WaitTimedOut

_T = TypeVar("_T")
_RETRY_SECONDS = 0.5
# a job that ends soon is seen to end soon; then looks become as rare as the caller wants
_FIRST_PAUSE_SECONDS = 0.05

BEGUN_ANEW = "[... this log was begun anew ...]\n"


@dataclass(frozen=True, slots=True)
class LogPart:
    """Text of a log and where to go on. `unfinished` tells that the last line is still being
    written: it comes again from there, whole."""

    data: bytes
    next_offset: int
    unfinished: bool = False


ReadLog = Callable[[int | None, int | None, int | None], LogPart]
"""Reads a part: attempt (None: the latest), last lines, or offset. Without either it is a look at
the log as it is; from an offset only complete lines come."""


def patiently(call: Callable[[], _T], patience_seconds: float) -> _T:
    """Call until it answers; gives up when nobody was there for that long."""
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            return call()
        except CannotConnect:
            if time.monotonic() >= deadline:
                raise
        time.sleep(_RETRY_SECONDS)


def wait(
    look: Callable[[], Job],
    on_change: Callable[[Job], object] | None,
    *,
    poll_seconds: float,
    timeout: float | None,
    patience_seconds: float,
) -> Job:
    """Look until the job has ended; tells every change. Raises WaitTimedOut."""
    deadline = None if timeout is None else time.monotonic() + timeout
    job, told = look(), None
    usual_pause = min(_FIRST_PAUSE_SECONDS, poll_seconds)
    while True:
        if on_change is not None and job != told:
            on_change(job)
            told = job
        if job.is_finished:
            return job
        left = usual_pause if deadline is None else deadline - time.monotonic()
        pause = min(usual_pause, left)
        if pause <= 0:
            message = f"job {job.number} is {job.status} and has not ended in {timeout:g} s"
            raise WaitTimedOut(message, hint="it goes on; wait for it again")
        time.sleep(pause)
        usual_pause = min(usual_pause * 1.5, poll_seconds)
        job = patiently(look, patience_seconds)


def drain(read_log: ReadLog, attempt: int | None, tail: int | None) -> Iterator[str]:
    """What a log holds now, in pieces."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    offset: int | None = None
    while True:
        part = read_log(attempt, tail, offset)
        yield decoder.decode(part.data)
        # an answer may be empty and yet move on, over states of a progress bar that are gone
        if part.unfinished or part.next_offset <= (offset or 0):
            break
        offset, tail = part.next_offset, None
    yield decoder.decode(b"", final=True)


class LogFollower:
    """Reads on in one attempt's log, and in the next attempt's when there is one."""

    def __init__(
        self, look: Callable[[], Job], read_log: ReadLog, tail: int | None, attempt: int | None
    ) -> None:
        self._look = look
        self._read_log = read_log
        self._tail = tail
        self._attempt = attempt
        self._only_this = attempt is not None
        self._begin(attempt)

    def follow(self, poll_seconds: float, patience_seconds: float) -> Iterator[str]:
        """Text as it comes, until the job (or the attempt that was named) has ended."""
        job = self._look()
        while True:
            # what the job looked like before reading decides: an ended log is complete
            yield from self._news(job, patience_seconds)
            if self._is_over(job):
                return
            if not self._step_on(job):
                time.sleep(poll_seconds)
                job = patiently(self._look, patience_seconds)

    def _begin(self, attempt: int | None) -> None:
        self._attempt = attempt
        self._offset = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def _news(self, job: Job, patience_seconds: float) -> Iterator[str]:
        if self._attempt is None:
            if not job.attempts:
                return
            self._begin(job.attempts[-1].attempt)
        while True:
            before, asked = self._offset, self._tail is None
            part = patiently(self._read, patience_seconds)
            if asked and part.next_offset < before:
                self._begin(self._attempt)
                yield BEGUN_ANEW
                continue
            if text := self._decoder.decode(_complete(part)):
                yield text
            if asked and part.next_offset == before:
                return

    def _read(self) -> LogPart:
        offset = self._offset if self._tail is None else None
        part = self._read_log(self._attempt, self._tail, offset)
        self._tail, self._offset = None, part.next_offset
        return part

    def _is_over(self, job: Job) -> bool:
        if self._only_this:
            mine = (a for a in job.attempts if a.attempt == self._attempt)
            return job.is_finished or any(a.end_time is not None for a in mine)
        return job.is_finished and not self._later(job)

    def _step_on(self, job: Job) -> bool:
        later = [] if self._only_this else self._later(job)
        if later:
            self._begin(min(later))
        return bool(later)

    def _later(self, job: Job) -> list[int]:
        return [a.attempt for a in job.attempts if a.attempt > (self._attempt or 0)]


def _complete(part: LogPart) -> bytes:
    return part.data[: part.data.rfind(b"\n") + 1] if part.unfinished else part.data
