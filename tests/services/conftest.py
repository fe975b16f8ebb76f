"""A household for every test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.factories import a_gpu
from tests.fakes import FakeInventory
from tests.services.household import Household


@pytest.fixture
async def household(tmp_path: Path) -> AsyncIterator[Household]:
    """Two GPUs, nothing running."""
    made = Household(tmp_path, FakeInventory(a_gpu(0), a_gpu(1)))
    await made.devices.read()
    yield made
    await made.close()
