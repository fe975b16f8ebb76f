"""The errors of training sessions and of the runs in them; the tree is in `errors.py`."""

from __future__ import annotations

from training_cluster.domain.errors import NotFound, WrongState


class RunNotFound(NotFound):
    """There is no such run."""

    code = "run_not_found"


class SessionNotFound(NotFound):
    """There is no such training session."""

    code = "session_not_found"


class SessionNotReady(WrongState):
    """The session is in no state for that."""

    code = "session_not_ready"


class EnvironmentNotFound(NotFound):
    """There is no such environment."""

    code = "environment_not_found"
