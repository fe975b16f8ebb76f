"""Fixtures every kind of test may use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.daemon_process import DaemonProcess, running_daemon, trainer

pytest_plugins = [
    "tests.fake_nvml.fixtures",
    "tests.adapters.tracker_environment",
    "tests.clients.fixtures",
    "tests.order",
    "tests.real_training",
    "tests.trust",
]


# What gates a change draws the same cases every time; the long forms look for new ones.
settings.register_profile("gate", derandomize=True, database=None)


def pytest_configure(config: pytest.Config) -> None:
    """Without the long forms every run is the same run."""
    if config.option.markexpr == "not slow":
        settings.load_profile("gate")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of real GPUs are skipped, with the reason, where there is none."""
    if any(Path("/dev").glob("nvidia[0-9]*")):
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU on this machine"))


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """Where the recording trainer writes."""
    folder = tmp_path / "record"
    folder.mkdir()
    return folder


@pytest.fixture
def quick_daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    """A daemon whose trainer is /bin/true."""
    environment = {"TRAINING_CLUSTER_TRAINER__COMMAND": "/bin/true"}
    with running_daemon(tmp_path / "state", environment) as daemon:
        yield daemon


@pytest.fixture
def held_daemon(tmp_path: Path, record: Path) -> Iterator[DaemonProcess]:
    """A daemon with one slot whose jobs run until the file `release` appears in `record`."""
    environment = {"TRAINING_CLUSTER_TRAINER__COMMAND": trainer("recording", record, 60, 0)}
    with running_daemon(tmp_path / "state", environment) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def shared_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """A daemon for all tests of a module that leave nothing in it."""
    environment = {"TRAINING_CLUSTER_TRAINER__COMMAND": "/bin/true"}
    with running_daemon(tmp_path_factory.mktemp("shared") / "state", environment) as daemon:
        yield daemon
