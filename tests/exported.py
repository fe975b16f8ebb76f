"""What /metrics exports, for tests of what is said about it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from prometheus_client.parser import text_string_to_metric_families

from tests.factories import NOW, a_gpu, status
from training_cluster.api import exposition
from training_cluster.api.request_metrics import Kind
from training_cluster.domain.device import Device, DeviceKind, Standing
from training_cluster.domain.disk import DiskSpace
from training_cluster.domain.job import JobState, Outcome
from training_cluster.domain.webhook import DeliveryState
from training_cluster.services.histogram import Histogram
from training_cluster.services.monitoring import Figures
from training_cluster.store.census import Census, TrackerBacklog

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@dataclass(frozen=True)
class ATracker:
    """A tracker's state."""

    name: str = "mlflow"
    up: bool = True
    since: float = NOW
    message: str = ""


def a_slot() -> Device:
    """A device that tells nothing of itself."""
    return Device(uuid="CPU-0", kind=DeviceKind.CPU, index=0, name="a CPU")


def a_hot_gpu() -> Device:
    """A device that tells everything."""
    return replace(a_gpu(), temperature_celsius=61.0, power_watts=540.0)


def some_figures() -> Figures:
    """One of everything."""
    empty = Histogram((1.0,)).read()
    census = Census(
        queued={0: 2, 5: 0},
        waiting_since={0: NOW - 60},
        jobs={JobState.QUEUED: 2},
        attempts_running=1,
        attempts={Outcome.COMPLETED: 3},
        deliveries={DeliveryState.DELIVERED: 4},
        pending_deliveries=1,
        oldest_delivery=NOW - 9,
        trackers={"mlflow": TrackerBacklog(runs=1, lines=7)},
    )
    return Figures(
        now=NOW,
        census=census,
        devices=[status(a_hot_gpu(), Standing.LEASED), status(a_slot())],
        latency={"no": empty, "yes": empty},
        idle_gap=empty,
        trackers=[ATracker(), ATracker("wandb", up=False)],
        disk=DiskSpace(free_bytes=4 << 30, total_bytes=9 << 30),
        disk_is_full=False,
    )


def requests() -> dict[Kind, object]:
    """One kind of request."""
    return {Kind("GET", "/train", "2xx"): Histogram((1.0,)).read()}


def parse(text: str) -> Samples:
    """Samples by name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def exported() -> dict[str, set[str]]:
    """The names of everything exported with the labels each has, `le` left out."""
    body, _ = exposition.text(some_figures(), requests(), 0)  # type: ignore[arg-type]
    found: dict[str, set[str]] = {}
    for name, labels in parse(body.decode()):
        found.setdefault(name, set()).update(key for key, _ in labels if key != "le")
    return found
