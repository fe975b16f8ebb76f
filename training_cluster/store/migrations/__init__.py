"""The schema as numbered steps, one a module; a step that has landed is never edited, only
followed.

The database refuses nonsense by itself: CHECKs tie end times and errors to states, a partial
unique index makes leasing one device twice impossible, triggers keep the counters true.
"""

from training_cluster.store.migrations import (
    m0001_spine,
    m0002_seen,
    m0003_identity,
    m0004_resume,
    m0005_quarantines,
    m0006_storage,
    m0007_datasets,
    m0008_models,
    m0009_dialect_requests,
    m0010_sessions,
    m0013_kinds,
    m0014_checkpoints,
    m0015_adapters,
)
from training_cluster.store.migrations.steps import migrations, steps_of_a_later_version

__all__ = [
    "m0001_spine",
    "m0002_seen",
    "m0003_identity",
    "m0004_resume",
    "m0005_quarantines",
    "m0006_storage",
    "m0007_datasets",
    "m0008_models",
    "m0009_dialect_requests",
    "m0010_sessions",
    "m0013_kinds",
    "m0014_checkpoints",
    "m0015_adapters",
    "migrations",
    "steps_of_a_later_version",
]
