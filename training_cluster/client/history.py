"""What the daemon tells of metrics and events, as frozen values; `client.py` hands them out.

Fields carry the API's names, times are Unix seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from training_cluster.client import streaming
from training_cluster.client.answers import Answer, read
from training_cluster.client.wire import Wire

_PAGE = 1000
_CSV = {"Accept": "text/csv"}


@dataclass(frozen=True, kw_only=True)
class Curve(Answer):
    """One metric by growing step. `points` counts those of the whole curve, of which only those
    that matter for its look are here when it is `downsampled`."""

    name: str
    steps: tuple[int, ...] = ()
    times: tuple[float, ...] = field(default=(), repr=False)
    values: tuple[float, ...] = ()
    points: int = 0
    downsampled: bool = False


@dataclass(frozen=True, kw_only=True)
class Metrics(Answer):
    """What a job has measured: the names of all metrics, and the curves that were asked for."""

    job_id: str
    status: str
    names: tuple[str, ...] = ()
    curves: tuple[Curve, ...] = ()

    def __getitem__(self, name: str) -> Curve:
        """A curve by its name; an empty one when the job has none of that name."""
        return next((c for c in self.curves if c.name == name), Curve(name=name))


@dataclass(frozen=True, kw_only=True)
class MetricLine(Answer):
    """One logged line. `step` is the optimizer step, or the number of the sample where `source`
    is telemetry."""

    sequence: int
    attempt: int = 1
    source: str = ""
    step: int = 0
    time: float = 0.0
    values: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Event(Answer):
    """One fact in the daemon's log; `job` is the job's number."""

    sequence: int
    time: float = 0.0
    type: str = ""
    job_id: str | None = None
    job: int | None = None
    attempt: int | None = None
    data: dict[str, Any] = field(default_factory=dict)


def metrics(wire: Wire, path: str, names: Iterable[str], points: int | None) -> Metrics:
    """The curves of a job."""
    raw = wire.document("GET", path, params={"names": list(names) or None, "points": points})
    curves = tuple(read(Curve, curve) for curve in raw.get("curves", ()))
    return replace(read(Metrics, raw), curves=curves)


def table(wire: Wire, path: str, names: Iterable[str], *, full: bool) -> Iterator[str]:
    """A job's metrics as CSV, piece by piece."""
    asked = {"names": list(names) or None, "full": full or None}
    with wire.open(path, params=asked, headers=_CSV) as response:
        yield from response.iter_text()


def follow_metrics(
    wire: Wire, path: str, after: int, patience_seconds: float
) -> Iterator[MetricLine]:
    """Lines of a job as they are logged, until it has ended."""
    for event in streaming.follow(wire, path, {"after": after or None}, patience_seconds):
        if event.name == "metrics":
            yield read(MetricLine, event.data)


def events(wire: Wire, asked: Mapping[str, Any], after: int, limit: int | None) -> Iterator[Event]:
    """Events behind `after`, page by page."""
    left = limit
    while left is None or left > 0:
        size = _PAGE if left is None else min(left, _PAGE)
        page = wire.document("GET", "/events", params={**asked, "after": after, "limit": size})
        found = page.get("events", [])
        yield from (read(Event, raw) for raw in found)
        if len(found) < size:
            return
        left = None if left is None else left - len(found)
        after = page["next"]


def latest_events(wire: Wire, asked: Mapping[str, Any], limit: int) -> list[Event]:
    """The latest events, at most a thousand, oldest first."""
    params = {**asked, "latest": True, "limit": min(limit, _PAGE)}
    page = wire.document("GET", "/events", params=params)
    return [read(Event, raw) for raw in page.get("events", [])]


def follow_events(wire: Wire, asked: Mapping[str, Any], patience_seconds: float) -> Iterator[Event]:
    """Events as they happen."""
    for event in streaming.follow(wire, "/events/stream", asked, patience_seconds):
        if event.name == "message":
            yield read(Event, event.data)
