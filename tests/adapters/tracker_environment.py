"""Finds the Python that has MLflow and W&B, and the daemon's way to start a worker with it."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs
import pytest

from training_cluster import tracker_environment


@pytest.fixture(scope="session")
def tracker_python() -> Path:
    """Python of the tracker environment: the one of the settings, else the default one."""
    chosen = os.environ.get("TRAINING_CLUSTER_TRACKING__ENVIRONMENT_DIR")
    default = tracker_environment.environment_path(platformdirs.user_data_path("training-cluster"))
    path = Path(chosen) if chosen else default
    if not chosen and not tracker_environment.is_complete(path):
        pytest.skip(f"{path} is no complete tracker environment: training-cluster tracker install")
    return tracker_environment.python(path)
