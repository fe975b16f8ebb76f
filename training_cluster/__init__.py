"""training-cluster: the queue a lab puts in front of its GPU box."""

from importlib.metadata import version

__version__ = version("training-cluster")
