"""The longest files first: whoever gets one of them last works on while all others have ended.

`scripts/test` gives files to workers in this order (`--no-loadscope-reorder`; pytest-xdist would
begin with the files of most tests, and the longest have one or two)."""

from __future__ import annotations

import pytest

# by what they took in one run of three workers on two cores; elsewhere nothing but time is lost
LONGEST = (
    "adapters/test_llamafactory_real.py",
    "adapters/test_tracker_worker_mlflow.py",
    "adapters/test_trackers.py",
    "acceptance/test_kills.py",
    "acceptance/test_resumed_training.py",
    "acceptance/test_real_training.py",
    "api/test_schema.py",
    "acceptance/test_trackers_killed.py",
    "adapters/test_wandb_online.py",
    "adapters/test_llamafactory_kinds_real.py",
    "clients/test_openai_real.py",
    "api/test_access_matrix.py",
    "dialects/lamini/test_real_training.py",
    "acceptance/test_followed_training.py",
    "clients/test_vertesia.py",
    "clients/test_openai.py",
    "acceptance/test_burst.py",
    "acceptance/test_hostile_names.py",
)


def rank(item: pytest.Item) -> int:
    """Where in the order an item's file is; all that are not named come together, at the end."""
    file = item.nodeid.partition("::")[0]
    return next((at for at, name in enumerate(LONGEST) if file.endswith(name)), len(LONGEST))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keeps the order of all others, and that of the tests in each file."""
    items.sort(key=rank)
