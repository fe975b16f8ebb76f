"""pytest fixtures of the fake driver: `pytest_plugins = ["tests.fake_nvml.fixtures"]`.

A conftest may as well import them by name; PYTEST_DONT_REWRITE lets both ways meet in one session.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from . import FakeNvml
from .reader import InventoryReader


@pytest.fixture
def fake_nvml(tmp_path: Path) -> FakeNvml:
    """A machine without GPUs yet; a test says how many, and gives a process `environment()`."""
    return FakeNvml(tmp_path / "nvml")


@pytest.fixture
def nvml_reader(fake_nvml: FakeNvml) -> Iterator[InventoryReader]:
    """A process that reads that machine through NvmlInventory."""
    with InventoryReader(fake_nvml.environment()) as reader:
        yield reader
