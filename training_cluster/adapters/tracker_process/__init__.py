"""A tracker behind a worker process with its own Python environment, see `tracker_worker`."""

from training_cluster.adapters.tracker_process.tracker import WorkerTracker, worker_command

__all__ = ["WorkerTracker", "worker_command"]
