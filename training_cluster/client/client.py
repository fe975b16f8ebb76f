"""The client class: one method for each thing the daemon can do."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

from training_cluster.client import following, history
from training_cluster.client.answers import (
    About,
    Devices,
    Hold,
    Job,
    JobPage,
    Queue,
    Ready,
    Released,
    Submitted,
    read,
)
from training_cluster.client.control import JobControl
from training_cluster.client.datasets import Datasets
from training_cluster.client.disk import Pruned
from training_cluster.client.errors import CannotConnect
from training_cluster.client.gpus import Gpus
from training_cluster.client.history import Event, MetricLine, Metrics
from training_cluster.client.models import Models
from training_cluster.client.tokens import Tokens
from training_cluster.client.webhooks import Webhooks
from training_cluster.client.wire import Wire, path_of

DEFAULT_URL = "http://127.0.0.1:23478"
_PAGE = 100


class Client(JobControl):
    """A daemon, reached over HTTP. Jobs are named by number or by id. On the daemon's own machine
    no `token` is needed.

    Every method raises ApiError when the daemon refuses and CannotConnect when none answers.
    """

    def __init__(
        self, base_url: str = DEFAULT_URL, token: str | None = None, timeout: float = 30.0
    ) -> None:
        self._wire = Wire(base_url, token, timeout)
        self.webhooks = Webhooks(self._wire)
        self.gpus = Gpus(self._wire)
        self.tokens, self.datasets = Tokens(self._wire), Datasets(self._wire)
        self.models = Models(self._wire)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    @property
    def url(self) -> str:
        """Where the daemon is."""
        return self._wire.url

    def close(self) -> None:
        """Let go of the connections."""
        self._wire.close()

    def submit(
        self,
        job: Mapping[str, Any] | None = None,
        /,
        *,
        strategy: str | None = None,
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> Submitted:
        """Submit a training job; keywords win over the mapping.

        Without a key of the caller's own one is made up, so that the client can send a request
        again when the connection breaks and the job is stored once.
        """
        key = idempotency_key or str(uuid.uuid4())
        try:
            response = self._wire.send(
                "POST",
                "/train",
                params={"strategy": strategy},
                body={**(job or {}), **fields},
                headers={"Idempotency-Key": key},
            )
        except CannotConnect as error:
            raise _with_key(error, key) from error
        replayed = response.headers.get("idempotency-replayed") == "true"
        return read(Submitted, self._wire.parse(response), replayed=replayed)

    def jobs(
        self, status: str | None = None, user: str | None = None, limit: int | None = None
    ) -> Iterator[Job]:
        """Jobs, newest first; pages are fetched as they are needed."""
        left = limit
        cursor: str | None = None
        while left is None or left > 0:
            size = _PAGE if left is None else min(left, _PAGE)
            asked = {"status": status, "user": user, "limit": size, "cursor": cursor}
            page = read(JobPage, self._wire.document("GET", "/train", params=asked))
            yield from page.jobs
            left = None if left is None else left - len(page.jobs)
            cursor = page.next_cursor
            if cursor is None:
                return

    def job(self, job_id: str | int) -> Job:
        """Everything known about a job."""
        return read(Job, self._wire.document("GET", path_of("train", job_id)))

    def queue(self) -> Queue:
        """What runs, what waits and why, and the devices."""
        return read(Queue, self._wire.document("GET", "/queue"))

    def devices(self) -> Devices:
        """Every device with its standing."""
        return read(Devices, self._wire.document("GET", "/devices"))

    def hold(self, device: str | int, reason: str, seconds: float | None = None) -> Hold:
        """Keep a device (UUID or index) out of the queue, for a while or until it is released."""
        body = {"reason": reason, "seconds": seconds}
        return read(Hold, self._wire.document("PUT", path_of("devices", device, "hold"), body=body))

    def release(self, device: str | int) -> Released:
        """Give a held device back; `released` is False when nobody held it."""
        path = path_of("devices", device, "hold")
        return read(Released, self._wire.document("DELETE", path))

    def prune(
        self,
        kinds: Sequence[str] = ("checkpoints", "caches"),
        *,
        dry_run: bool = True,
        **limits: Any,
    ) -> Pruned:
        """What of finished jobs would go and free how much; removed unless it is a dry run.

        `limits` are older_than_days (30), user, state."""
        body = {"dry_run": dry_run, "kinds": list(kinds), **limits}
        return read(Pruned, self._wire.document("POST", "/prune", body=body))

    def logs(
        self,
        job_id: str | int,
        tail: int | None = None,
        attempt: int | None = None,
        *,
        raw: bool = False,
    ) -> str:
        """What the trainer has printed so far, or its last `tail` lines.

        Readable text; with `raw` as it was printed, escape sequences and all."""
        return "".join(self.log_chunks(job_id, tail, attempt, raw=raw))

    def log_chunks(
        self,
        job_id: str | int,
        tail: int | None = None,
        attempt: int | None = None,
        *,
        raw: bool = False,
    ) -> Iterator[str]:
        """As `logs`, piece by piece."""
        return following.drain(self._log_reader(job_id, raw), attempt, tail)

    def follow_logs(
        self,
        job_id: str | int,
        tail: int | None = None,
        attempt: int | None = None,
        *,
        raw: bool = False,
        poll_seconds: float = 1.0,
        patience_seconds: float = 60.0,
    ) -> Iterator[str]:
        """The log as it grows, complete lines, through all attempts, until the job ends.

        A daemon that does not answer for `patience_seconds` ends it with CannotConnect.
        """
        follower = following.LogFollower(
            lambda: self.job(job_id), self._log_reader(job_id, raw), tail, attempt
        )
        return follower.follow(poll_seconds, patience_seconds)

    def metrics(
        self, job_id: str | int, names: Iterable[str] = (), points: int | None = None
    ) -> Metrics:
        """The curves of a job, or those named, thinned out to `points` (2000) each."""
        return history.metrics(self._wire, path_of("train", job_id, "metrics"), names, points)

    def metrics_table(
        self, job_id: str | int, names: Iterable[str] = (), *, full: bool = False
    ) -> Iterator[str]:
        """All a job has measured as CSV, piece by piece: a row for each step, with `full` one for
        each line that was logged."""
        return history.table(self._wire, path_of("train", job_id, "metrics"), names, full=full)

    def follow_metrics(
        self, job_id: str | int, after: int = 0, *, patience_seconds: float = 60.0
    ) -> Iterator[MetricLine]:
        """Every line a job logs, from the first (or behind a sequence number) until it ends.

        A line of a later attempt may go back to an earlier step, which it then replaces. A daemon
        that does not answer for `patience_seconds` ends it with CannotConnect.
        """
        path = path_of("train", job_id, "metrics", "stream")
        return history.follow_metrics(self._wire, path, after, patience_seconds)

    def events(
        self,
        job_id: str | int | None = None,
        kind: str | None = None,
        after: int = 0,
        limit: int | None = None,
    ) -> Iterator[Event]:
        """What has happened, oldest first; of one job or one type when these are named. Pages are
        fetched as they are needed."""
        return history.events(self._wire, {"job": job_id, "type": kind}, after, limit)

    def latest_events(
        self, limit: int = 100, job_id: str | int | None = None, kind: str | None = None
    ) -> list[Event]:
        """The latest events, at most a thousand, oldest first."""
        return history.latest_events(self._wire, {"job": job_id, "type": kind}, limit)

    def follow_events(
        self,
        job_id: str | int | None = None,
        kind: str | None = None,
        after: int | None = None,
        *,
        patience_seconds: float = 60.0,
    ) -> Iterator[Event]:
        """What happens, from now on (or behind a sequence number; 0: from the first on); of one
        job until it has ended."""
        asked = {"job": job_id, "type": kind, "after": after}
        return history.follow_events(self._wire, asked, patience_seconds)

    def wait(
        self,
        job_id: str | int,
        on_change: Callable[[Job], object] | None = None,
        *,
        poll_seconds: float = 1.0,
        timeout: float | None = None,
        patience_seconds: float = 60.0,
    ) -> Job:
        """Wait for the end of a job; `on_change` gets the job at first and at every change.

        Raises WaitTimedOut after `timeout` seconds; the job goes on.
        """
        return following.wait(
            lambda: self.job(job_id),
            on_change,
            poll_seconds=poll_seconds,
            timeout=timeout,
            patience_seconds=patience_seconds,
        )

    def about(self) -> About:
        """The daemon in a few words."""
        return read(About, self._wire.document("GET", "/"))

    def ready(self) -> Ready:
        """Whether the daemon can do its work, part by part."""
        return read(Ready, self._wire.parse(self._wire.send("GET", "/readyz", accept_status=503)))

    def _log_reader(self, job_id: str | int, raw: bool) -> following.ReadLog:
        path = path_of("train", job_id, "logs")

        def read_log(
            attempt: int | None, tail: int | None, offset: int | None
        ) -> following.LogPart:
            asked = {"attempt": attempt, "tail": tail, "offset": offset, "raw": raw or None}
            response = self._wire.send("GET", path, params=asked)
            unfinished = response.headers.get("X-Unfinished-Line") == "true"
            end = self._wire.number(response, "X-Next-Offset")
            return following.LogPart(response.content, end, unfinished)

        return read_log


def _with_key(error: CannotConnect, key: str) -> CannotConnect:
    if not error.was_sent:
        return error
    hint = f"whether the job was taken is unknown: submit it again with the idempotency key {key}"
    return CannotConnect(error.message, hint=hint, was_sent=True)
