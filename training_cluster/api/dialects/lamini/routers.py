"""Lamini's routes, in the order in which their paths are looked at."""

from __future__ import annotations

from training_cluster.api.dialects.lamini import (
    control,
    data,
    downloaded,
    evaluation,
    printed_link,
    train,
    version,
)

ROUTERS = (
    version.router,
    data.router,
    data.strict,
    train.router,
    control.router,
    evaluation.router,
    downloaded.router,
    printed_link.router,
)
