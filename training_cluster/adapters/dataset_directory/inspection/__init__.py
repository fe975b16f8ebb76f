"""Checks datasets that people hand in, by a worker process that lives for one request.

`process.py` is the daemon's side, everything else runs in the worker.
"""

from training_cluster.adapters.dataset_directory.inspection.process import ProcessInspector

__all__ = ["ProcessInspector"]
