"""Vertesia's training API over our jobs and datasets."""

from training_cluster.api.dialects.vertesia import data, environments, jobs, runs, sessions

# `names` and `job` are no session's id
ROUTERS = tuple(module.router for module in (environments, runs, sessions, data, jobs))
