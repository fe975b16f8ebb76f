"""The routes of every dialect, as the app takes them in."""

from __future__ import annotations

from training_cluster.api.dialects import openai, vertesia
from training_cluster.api.dialects.lamini import routers as lamini
from training_cluster.api.late_routes import LateRouter

ROUTERS: tuple[LateRouter, ...] = (
    *lamini.ROUTERS,
    *openai.ROUTERS,
    *vertesia.ROUTERS,
)
