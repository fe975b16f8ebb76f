"""GPUs and MIG slices through NVML: `inventory` reads them, `queries` asks NVML about one device,
`processes` says whose a process is."""

from training_cluster.adapters.nvml.inventory import NvmlInventory, NvmlProbe

__all__ = ["NvmlInventory", "NvmlProbe"]
