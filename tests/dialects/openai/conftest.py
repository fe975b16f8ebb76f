"""A daemon for the tests that ask over HTTP, a real database for those that read one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon_process import DaemonProcess, running_daemon, trainer
from training_cluster.store.database import Database


@pytest.fixture(scope="package")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """A daemon whose trainings take a moment, and leave checkpoints every 4 of 12 steps."""
    folder = tmp_path_factory.mktemp("quick")
    snapshot = folder / "hub" / "models--owner--cached" / "snapshots" / "main"
    for model in (snapshot, folder / "models" / "below-a-root"):
        model.mkdir(parents=True)
        (model / "config.json").write_text("{}")
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("saving", 12, 0, 4),
        "TRAINING_CLUSTER_MODEL_ROOTS": str(folder / "models"),
        "HF_HUB_CACHE": str(folder / "hub"),
    }
    with running_daemon(folder / "state", environment) as daemon:
        daemon.root = folder / "models"  # type: ignore[attr-defined]
        yield daemon


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "queue.db")
    yield opened
    opened.close()
