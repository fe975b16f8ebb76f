"""training-cluster: the queue a lab puts in front of its GPU box."""

from __future__ import annotations


def __getattr__(name: str) -> str:
    """`__version__`, looked up when somebody asks: the small processes beside the daemon never do,
    and finding it costs them 3 MB."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version

    return version("training-cluster")
