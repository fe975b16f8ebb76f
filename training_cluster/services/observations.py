"""Watches committed events for two durations nobody stores: how long a job that could start took
to start, and how long a device stood idle although a job waited for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from training_cluster.domain.event import ATTEMPT_ENDS, Event, EventType
from training_cluster.services.histogram import Distribution, Histogram
from training_cluster.store.facts import Fact

_LATENCY_BOUNDS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    *(60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0),
)
_GAP_BOUNDS = (
    *(0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
    *(10.0, 30.0, 60.0, 300.0, 3600.0),
)
# a driver has that long to answer before its devices count as faulty; a start that takes longer
# than twice this was held up by more than a slow look at free devices
_PATIENCE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class _Start:
    """An attempt on its way: since when its job could start, and what it was given."""

    ready_at: float
    waited: bool
    devices: tuple[str, ...]


class Observations:
    """Told of every commit's facts, in order. Keeps something only for attempts that are being
    started and for devices that are free, and begins anew with the daemon."""

    def __init__(self) -> None:
        self._at_once = Histogram(_LATENCY_BOUNDS)
        self._waited = Histogram(_LATENCY_BOUNDS)
        self._gaps = Histogram(_GAP_BOUNDS)
        self._starts: dict[tuple[int | None, int | None], _Start] = {}
        self._freed: dict[str, float] = {}
        self._kept: set[str] = set()
        self._last_freed = float("-inf")

    @property
    def latency(self) -> Mapping[str, Distribution]:
        """Seconds from when a job could start (queued, its retry due, its dependencies complete)
        until its attempt ran, by whether it had to wait for devices: `yes` or `no`."""
        return {"no": self._at_once.read(), "yes": self._waited.read()}

    @property
    def idle_gap(self) -> Distribution:
        """Seconds from when a device was freed until the next attempt ran on it, where the job of
        that attempt was waiting already."""
        return self._gaps.read()

    def watch(self, facts: Sequence[Fact]) -> None:
        """Learn from the facts of one commit."""
        for fact in facts:
            if isinstance(fact, Event):
                self._learn(fact)

    def _learn(self, event: Event) -> None:
        if event.type is EventType.JOB_STARTING:
            self._begin(event)
        elif event.type is EventType.JOB_STARTED:
            self._measure(event)
        elif event.type in ATTEMPT_ENDS:
            self._starts.pop((event.job_number, event.attempt_number), None)
            self._free(event.data.get("devices", ()), event.time)
        elif event.type in (EventType.DEVICE_RELEASED, EventType.DEVICE_RECOVERED):
            self._kept.difference_update(_devices_of(event))
            self._free(_devices_of(event), event.time)
        elif event.type in (EventType.DEVICE_HELD, EventType.DEVICE_QUARANTINED):
            self._keep(_devices_of(event))

    def _begin(self, event: Event) -> None:
        ready_at = event.data.get("ready_at", event.time)
        waited = self._last_freed > ready_at or event.time - ready_at > _PATIENCE_SECONDS
        devices = tuple(event.data.get("devices", ()))
        self._starts[event.job_number, event.attempt_number] = _Start(ready_at, waited, devices)

    def _measure(self, event: Event) -> None:
        start = self._starts.pop((event.job_number, event.attempt_number), None)
        if start is None:  # begun by an earlier daemon
            return
        histogram = self._waited if start.waited else self._at_once
        histogram.observe(max(0.0, event.time - start.ready_at))
        self._kept.difference_update(start.devices)
        for device in start.devices:
            freed_at = self._freed.pop(device, None)
            if freed_at is not None and start.ready_at <= freed_at:
                self._gaps.observe(max(0.0, event.time - freed_at))

    def _free(self, devices: Sequence[str], now: float) -> None:
        for device in devices:
            if device not in self._kept:
                self._freed[device] = self._last_freed = now

    def _keep(self, devices: Sequence[str]) -> None:
        """Time out of the queue is not idle time."""
        self._kept.update(devices)
        for device in devices:
            self._freed.pop(device, None)


def _devices_of(event: Event) -> tuple[str, ...]:
    device = event.data.get("device") or event.data.get("uuid")
    return (device,) if device else ()
