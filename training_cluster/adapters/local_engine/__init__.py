"""The engine of this machine: one runner process per attempt, started by a fork server."""

from training_cluster.adapters.local_engine.engine import LocalEngine

__all__ = ["LocalEngine"]
