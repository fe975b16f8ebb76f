"""Dataset versions kept as folders below one or more roots, behind the DatasetRegistry port."""

from training_cluster.adapters.dataset_directory.registry import DatasetDirectory

__all__ = ["DatasetDirectory"]
