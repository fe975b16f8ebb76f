"""Whoever deletes, cancels or prunes what others use at that moment: nobody is answered by 500."""

from __future__ import annotations

import pytest

from tests.api import racing
from tests.daemon_process import running_daemon, trainer

ENVIRONMENT = {
    "TRAINING_CLUSTER_CPU_SLOTS": "2",
    "TRAINING_CLUSTER_WEBHOOKS__ALLOW_HOSTS": "127.0.0.1",
}
WORDS = ("api.bug", "loop.error", "logs.follow", "Exception in ASGI")


def race(tmp_path, asks: tuple[racing.Ask, ...], requests: int, seed: int = 4) -> None:
    command = trainer("asked", 0.01, 3)
    environment = ENVIRONMENT | {"TRAINING_CLUSTER_TRAINER__COMMAND": command}
    with running_daemon(tmp_path / "state", environment) as daemon:
        found = racing.Race(daemon, asks, seed)
        found.run(requests)
        assert not found.broken, found.broken[:5]
        lines = [line for line in daemon.log.splitlines() if any(word in line for word in WORDS)]
        assert not lines, lines[:5]
        assert daemon.client.get("/readyz").status_code == 200
    never = found.without_luck()  # a job may have ended whenever it was to be paused
    assert len(never) <= len(asks) / 3, never


@pytest.mark.parametrize("part", ["DATASETS", "OPENAI", "JOBS", "LAMINI", "VERTESIA"])
def test_what_others_use_may_be_taken_away_at_any_moment(tmp_path, part):
    race(tmp_path, getattr(racing, part), 800)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("part", ["DATASETS", "OPENAI", "JOBS", "LAMINI", "VERTESIA"])
def test_what_others_use_may_be_taken_away_for_long(tmp_path, part):
    race(tmp_path, getattr(racing, part), 10_000, seed=5)
