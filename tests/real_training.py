"""What a daemon needs that trains for real: a tiny model, this machine's trainer environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from tests.daemon_process import ROOT
from training_cluster.settings import load_settings

_PATIENCE_SECONDS = 300


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, made once for all workers of a run; nobody writes to it."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # each has a folder in the one of the run
        folder = folder.parent
    model = folder / "trained-for-real" / "tiny"
    with FileLock(folder / "trained-for-real.lock"):
        if not model.exists():  # it is put there whole
            _make(model)
    return model


def _make(model: Path) -> None:
    corpus = ROOT / "datasets" / "v1.0" / "train.json"
    command = [sys.executable, "-m", "training_cluster", "tiny-model", str(model)]
    subprocess.run([*command, "--corpus", str(corpus)], check=True, timeout=_PATIENCE_SECONDS)


def for_real(model: Path) -> dict[str, str]:
    """The settings of a daemon that trains this model, and reaches for no hub."""
    return {
        "TRAINING_CLUSTER_MODEL_ROOTS": str(model.parent),
        "TRAINING_CLUSTER_DATA_DIR": str(load_settings().data_dir),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",  # two are slower on a model this small, and round otherwise
    }
