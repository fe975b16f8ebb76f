"""Every outside boundary as a small protocol; `daemon/` decides what stands behind each."""

from training_cluster.ports.datasets import DatasetInspector, Findings, InspectionTask
from training_cluster.ports.machine import Clock, DeviceInventory, PeerIdentity, SteppingClock
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
    VitalSigns,
)

__all__ = [
    "Assignment",
    "Clock",
    "Dataset",
    "DatasetInspector",
    "DatasetRegistry",
    "DeviceInventory",
    "Endpoint",
    "EndpointFormat",
    "Engine",
    "Exit",
    "Findings",
    "InspectionTask",
    "Launch",
    "Notifier",
    "OpenedRun",
    "PeerIdentity",
    "Receipt",
    "RunEnding",
    "Sighting",
    "SteppingClock",
    "TrackedLine",
    "TrackedRun",
    "Tracker",
    "Trainer",
    "TrainingRecord",
    "VitalSigns",
]
