"""Every outside boundary as a small protocol; `daemon/` decides what stands behind each."""

from training_cluster.ports.machine import Clock, DeviceInventory, PeerIdentity
from training_cluster.ports.telling import (
    Endpoint,
    EndpointFormat,
    Notifier,
    OpenedRun,
    Receipt,
    RunEnding,
    TrackedLine,
    TrackedRun,
    Tracker,
)
from training_cluster.ports.training import (
    Assignment,
    Dataset,
    DatasetRegistry,
    Engine,
    Exit,
    Launch,
    Sighting,
    Trainer,
    TrainingRecord,
)

__all__ = [
    "Assignment",
    "Clock",
    "Dataset",
    "DatasetRegistry",
    "DeviceInventory",
    "Endpoint",
    "EndpointFormat",
    "Engine",
    "Exit",
    "Launch",
    "Notifier",
    "OpenedRun",
    "PeerIdentity",
    "Receipt",
    "RunEnding",
    "Sighting",
    "TrackedLine",
    "TrackedRun",
    "Tracker",
    "Trainer",
    "TrainingRecord",
]
