"""Fixtures of the real clients: each is made on first use and kept for all tests and checkouts."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.clients.environments import environment, unsupported
from tests.clients.running import RealClient

ByVersion = Callable[[str], RealClient]


@pytest.fixture(scope="session")
def real_client(tmp_path_factory: pytest.TempPathFactory) -> ByVersion:
    """A real client by the name of its recipe: `real_client("openai-2.54")`, `("dspy-3.4")`."""

    def find(name: str) -> RealClient:
        if why := unsupported(name):
            pytest.skip(why)
        return RealClient(environment(name), tmp_path_factory.mktemp(name.replace(".", "-")))

    return find


@pytest.fixture(scope="session")
def openai_python(real_client: ByVersion) -> ByVersion:
    """OpenAI's package for Python: "1.109", "2.54" or "3.52"."""
    return lambda version: real_client(f"openai-{version}")


@pytest.fixture(scope="session")
def lamini_python(real_client: ByVersion) -> ByVersion:
    """Lamini's package for Python: "3.4.3" or "2.0.13"."""
    return lambda version: real_client(f"lamini-{version}")


@pytest.fixture(scope="session")
def openai_node(real_client: ByVersion) -> RealClient:
    """OpenAI's package for Node."""
    return real_client("npm-openai-7")


@pytest.fixture(scope="session")
def vertesia_node(real_client: ByVersion) -> RealClient:
    """Vertesia's package for Node."""
    return real_client("npm-vertesia-1.5")
