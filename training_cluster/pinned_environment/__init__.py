"""Python environments of our own beside the daemon's: made from tested pins, whole or not at all.

Only the standard library and filelock are needed here: the daemon imports nothing that is in them.
"""

from training_cluster.pinned_environment.environment import Check, PinnedEnvironment
from training_cluster.pinned_environment.making import python
from training_cluster.pinned_environment.pip import PinnedEnvironmentError, clean_environment

__all__ = ["Check", "PinnedEnvironment", "PinnedEnvironmentError", "clean_environment", "python"]
