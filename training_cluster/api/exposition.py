"""Figures in Prometheus' words. Imports prometheus-client: load it when somebody scrapes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from training_cluster import __version__
from training_cluster.api.request_metrics import Kind
from training_cluster.domain.device import Standing
from training_cluster.domain.job import JobState, Outcome
from training_cluster.scheduling.plan import DeviceStatus
from training_cluster.services.histogram import Distribution
from training_cluster.services.monitoring import Figures
from training_cluster.store.census import Census

_P = "training_cluster_"
_Labelled = Iterable[tuple[Sequence[str], float | None]]
_Requests = Mapping[Kind, Distribution]
_PROCESS = ProcessCollector(registry=None)
_RAN = tuple(outcome for outcome in Outcome if outcome is not Outcome.DEPENDENCY_FAILED)


def text(figures: Figures, requests: _Requests, streams: int) -> tuple[bytes, str]:
    """The classic text format, with its content type."""
    return generate_latest(_registry(figures, requests, streams)), CONTENT_TYPE_PLAIN_0_0_4


def openmetrics(figures: Figures, requests: _Requests, streams: int) -> tuple[bytes, str]:
    """The OpenMetrics format, with its content type."""
    registry = _registry(figures, requests, streams)
    body: bytes = generate_openmetrics(registry)  # type: ignore[no-untyped-call]
    return body, CONTENT_TYPE_LATEST


class _Scrape(Collector):
    """One moment's figures as a collector."""

    def __init__(self, figures: Figures, requests: _Requests, streams: int) -> None:
        self._parts = (figures, requests, streams)

    def collect(self) -> Iterator[Metric]:
        """Everything that is exported."""
        figures, requests, streams = self._parts
        yield InfoMetricFamily(
            f"{_P}build", "The daemon's version.", value={"version": __version__}
        )
        yield from _queue(figures.census, figures.now)
        yield from _attempts(figures.census)
        yield from _devices(figures.devices)
        yield from _disk(figures)
        yield from _scheduling(figures)
        yield from _deliveries(figures.census, figures.now)
        yield from _trackers(figures)
        yield from _http(requests, streams)
        yield from _PROCESS.collect()


def _registry(figures: Figures, requests: _Requests, streams: int) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Scrape(figures, requests, streams))
    return registry


def _gauge(name: str, meaning: str, labels: Sequence[str], values: _Labelled) -> Metric:
    family = GaugeMetricFamily(_P + name, meaning, labels=labels)
    for key, value in values:
        if value is not None:
            family.add_metric(key, value)
    return family


def _counter(name: str, meaning: str, labels: Sequence[str], values: _Labelled) -> Metric:
    family = CounterMetricFamily(_P + name, meaning, labels=labels)
    for key, value in values:
        if value is not None:
            family.add_metric(key, value)
    return family


def _histogram(
    name: str,
    meaning: str,
    labels: Sequence[str],
    values: Iterable[tuple[Sequence[str], Distribution]],
) -> Metric:
    family = HistogramMetricFamily(_P + name, meaning, labels=labels)
    for key, found in values:
        bounds = [*map(str, found.bounds), "+Inf"]
        buckets = list(zip(bounds, map(float, found.at_most), strict=True))
        family.add_metric(key, buckets, found.total)
    return family


def _queue(census: Census, now: float) -> Iterator[Metric]:
    queued = {0: 0, **census.queued}
    ages = {priority: now - since for priority, since in census.waiting_since.items()}
    yield _gauge(
        "queue_jobs",
        "Jobs that wait, for devices, a retry or another job.",
        ["priority"],
        (([str(priority)], count) for priority, count in sorted(queued.items())),
    )
    yield _gauge(
        "queue_oldest_age_seconds",
        "How long the longest waiting of the first 100 jobs has waited; 0 with none.",
        ["priority"],
        (([str(key)], max(0.0, ages.get(key, 0.0))) for key in sorted(queued)),
    )
    yield _gauge(
        "jobs",
        "Jobs in each state, finished ones included.",
        ["state"],
        (([state.value], census.jobs.get(state, 0)) for state in JobState),
    )


def _attempts(census: Census) -> Iterator[Metric]:
    running = [((), census.attempts_running)]
    yield _gauge("attempts_running", "Attempts that hold devices.", (), running)
    yield _counter(
        "attempts",
        "Attempts that have ended, ever.",
        ["outcome"],
        (([outcome.value], census.attempts.get(outcome, 0)) for outcome in _RAN),
    )


def _devices(devices: Sequence[DeviceStatus]) -> Iterator[Metric]:
    labels = ["device", "index"]
    known = [((found.device.uuid, str(found.device.index)), found) for found in devices]
    info = InfoMetricFamily(f"{_P}device", "A device.", labels=labels)
    for key, found in known:
        info.add_metric(key, {"name": found.device.name, "kind": found.device.kind.value})
    yield info
    for name, meaning, attribute, factor in _READINGS:
        values = ((key, _scaled(getattr(found.device, attribute), factor)) for key, found in known)
        yield _gauge(name, meaning, labels, values)
    standings = [(key, found.availability.standing) for key, found in known]
    yield _gauge(
        "device_leased",
        "1 while an attempt holds the device.",
        labels,
        ((key, standing is Standing.LEASED) for key, standing in standings),
    )
    yield _gauge(
        "device_quarantined",
        "1 while the device is quarantined, leased or not.",
        labels,
        ((key, found.quarantine is not None) for key, found in known),
    )
    yield _gauge(
        "device_standing",
        "1 for the standing the device has.",
        [*labels, "standing"],
        (
            ((*key, each.value), each is standing)
            for key, standing in standings
            for each in Standing
        ),
    )


_READINGS = (
    ("device_memory_used_bytes", "Memory in use, by whomever.", "used_memory_bytes", 1.0),
    ("device_memory_total_bytes", "Memory there is.", "total_memory_bytes", 1.0),
    ("device_utilization_ratio", "Load, 0 to 1.", "utilization_percent", 0.01),
    ("device_temperature_celsius", "Temperature.", "temperature_celsius", 1.0),
    ("device_power_watts", "Power drawn.", "power_watts", 1.0),
)


def _scaled(figure: float | None, factor: float) -> float | None:
    return None if figure is None else figure * factor


def _disk(figures: Figures) -> Iterator[Metric]:
    space, full = figures.disk, figures.disk_is_full
    free, total = [((), space.free_bytes)], [((), space.total_bytes)]
    yield _gauge("disk_free_bytes", "What jobs may still write on the state's disk.", (), free)
    yield _gauge("disk_total_bytes", "The size of that disk.", (), total)
    yield _gauge("disk_full", "1 while submissions are refused for it.", (), [((), full)])


def _scheduling(figures: Figures) -> Iterator[Metric]:
    yield _histogram(
        "scheduling_latency_seconds",
        "From when a job could start until its attempt ran; waited: whether devices had to come "
        "free first.",
        ["waited"],
        (([waited], found) for waited, found in figures.latency.items()),
    )
    yield _histogram(
        "idle_gap_seconds",
        "From when a device was freed until the next attempt ran on it, its job waiting already.",
        (),
        [((), figures.idle_gap)],
    )


def _deliveries(census: Census, now: float) -> Iterator[Metric]:
    age = 0.0 if census.oldest_delivery is None else max(0.0, now - census.oldest_delivery)
    pending = [((), census.pending_deliveries)]
    yield _gauge("deliveries_pending", "Deliveries to webhooks on their way.", (), pending)
    yield _gauge("deliveries_oldest_age_seconds", "Age of the oldest of them.", (), [((), age)])
    yield _counter(
        "deliveries",
        "Deliveries that have come to an end, ever; one that is replayed ends again.",
        ["result"],
        (([state.value], count) for state, count in census.deliveries.items()),
    )


def _trackers(figures: Figures) -> Iterator[Metric]:
    backlog, states = figures.census.trackers, figures.trackers
    names = sorted({*backlog, *(state.name for state in states)})
    found = [([name], backlog.get(name)) for name in names]
    yield _gauge(
        "tracker_up",
        "1 while the tracker takes what it is given.",
        ["tracker"],
        (([state.name], state.up) for state in states),
    )
    yield _gauge(
        "tracker_runs_unfinished",
        "Runs the tracker does not have all of yet.",
        ["tracker"],
        ((key, each.runs if each else 0) for key, each in found),
    )
    yield _gauge(
        "tracker_lag_lines",
        "Metric lines stored here and not yet taken by the tracker; counted up to 10,000.",
        ["tracker"],
        ((key, each.lines if each else 0) for key, each in found),
    )


def _http(requests: _Requests, streams: int) -> Iterator[Metric]:
    labels = Kind._fields
    yield _gauge("streams_open", "Event streams being followed.", (), [((), streams)])
    yield _counter(
        "http_requests",
        "Requests answered.",
        labels,
        ((kind, found.at_most[-1]) for kind, found in requests.items()),
    )
    yield _histogram(
        "http_request_duration_seconds",
        "Until the answer was complete; of an event stream, until it began.",
        labels,
        requests.items(),
    )
