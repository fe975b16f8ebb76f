"""Who is told what happens: trackers that keep runs, and receivers of notifications."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedRun:
    """A job's record at a tracker. `key` is ours and stable: whoever opens a run of the same key
    again gets the same run. `parameters` are the whole resolved configuration, `tags` name job,
    user, dataset, devices and attempt, `labels` are the words people filter by. Times are Unix
    seconds; `project` is MLflow's experiment or W&B's project."""

    key: str
    name: str
    project: str
    started_at: float
    entity: str | None = None
    run_id: str | None = None
    parameters: Mapping[str, bool | int | float | str | None] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OpenedRun:
    """A run that is open for lines. `recorded` is how many lines the tracker is known to hold,
    None when it cannot tell and takes a repeated line for the same line. `warning` is a sentence
    for the job's owner, such as that the run is kept offline."""

    run_id: str
    url: str | None = None
    recorded: int | None = None
    warning: str | None = None


@dataclass(frozen=True, slots=True)
class TrackedLine:
    """One logged line of a run: its position in the run (0, 1, ...), optimizer step (or sample
    number for system metrics), Unix seconds, and finite values by Hugging Face names."""

    position: int
    step: int
    time: float
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnding:
    """How a run ended: `status` is completed, failed or cancelled. `lines` is how many lines the
    run has in all; `artifacts` maps names in the tracker to files or folders here."""

    status: str
    ended_at: float
    lines: int
    message: str = ""
    summary: Mapping[str, float | str] = field(default_factory=dict)
    artifacts: Mapping[str, Path] = field(default_factory=dict)


class Tracker(Protocol):
    """A place that keeps runs. Every call may be repeated, by another daemon too, and then
    changes nothing. All raise TrackerUnavailable (try again later) or TrackerRefused (this run
    will never be taken as it is)."""

    name: str

    async def open(self, run: TrackedRun) -> OpenedRun:
        """Find the run or make it, and have it count as running again."""
        ...

    async def log(self, key: str, lines: Sequence[TrackedLine]) -> None:
        """Add lines to an opened run, in order."""
        ...

    async def finish(self, key: str, ending: RunEnding) -> None:
        """Add artifacts and the final status. Returns when the tracker has it all; raises
        TrackerUnavailable when the run is no longer open or lines are missing: open it again."""
        ...

    async def close(self) -> None:
        """Let go of the tracker; runs stay as they are. May be called twice."""
        ...


class EndpointFormat(StrEnum):
    """How a receiver of notifications wants to be told."""

    STANDARD = "standard"  # signed JSON by the Standard Webhooks specification
    SLACK = "slack"  # an incoming webhook of Slack
    APPRISE = "apprise"  # anything the apprise library reaches: mail, Teams, Discord, ...


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where notifications go. `secrets` sign them, the newest first; `repr` hides both."""

    format: EndpointFormat
    url: str = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of one try to deliver. `status` is the HTTP status, None when there was no
    answer, and `error` says why then. `retry_after_seconds` is what the receiver asked for."""

    status: int | None
    error: str | None = None
    retry_after_seconds: float | None = None
    duration_seconds: float = 0.0


class Notifier(Protocol):
    """Carries notifications to receivers outside."""

    def check(self, url: str) -> EndpointFormat:
        """Hold an address against what may be called; does not resolve names.

        Raises InvalidRequest with a problem on the field `url`."""
        ...

    def render(self, format: EndpointFormat, document: Mapping[str, Any]) -> bytes:  # noqa: A002
        """The body a receiver of this format gets for a notification document."""
        ...

    async def send(
        self, endpoint: Endpoint, message_id: str, timestamp: float, body: bytes
    ) -> Receipt:
        """Try once, at most some seconds long. Never raises."""
        ...

    async def close(self) -> None:
        """Let go of connections. May be called twice."""
        ...
