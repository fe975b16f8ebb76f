"""The composition root: settings -> adapters -> services -> app. Nothing else builds the graph."""

# isort: off
import training_cluster.logs  # noqa: F401  # decides how structlog is imported: comes first

# isort: on
from training_cluster.daemon.choices import (
    choose_inventory,
    diagnose_devices,
    has_trainer,
    list_datasets,
    trainer_path,
)
from training_cluster.daemon.composition import Daemon
from training_cluster.daemon.serving import bind, build_app, serve

__all__ = [
    "Daemon",
    "bind",
    "build_app",
    "choose_inventory",
    "diagnose_devices",
    "has_trainer",
    "list_datasets",
    "serve",
    "trainer_path",
]
