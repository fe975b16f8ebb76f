"""GPUs and MIG slices through NVML. `guarded` is what the daemon has: it asks `worker`, a small
process of its own, in which `inventory` reads the GPUs, `queries` asks NVML about one device,
`sanity` doubts what cannot be, and `processes` says whose a process is. `wire` is what the two
processes say to each other."""
