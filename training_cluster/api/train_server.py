"""The documented start: `cd training_cluster/api && uvicorn train_server:app`.

Settings come from the environment and the settings file; host and port are uvicorn's.
"""

from __future__ import annotations

from training_cluster.daemon import build_app
from training_cluster.settings import load_settings

app = build_app(load_settings())
