"""The answer to a removal from the disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from training_cluster.client.answers import Answer


@dataclass(frozen=True, kw_only=True)
class Pruned(Answer):
    """What would go, or went, to make room; `bytes` is all of it, `items` the first thousand."""

    dry_run: bool
    bytes: int
    things: int = 0
    deliveries: int = 0
    items: tuple[dict[str, Any], ...] = ()
    failed: tuple[str, ...] = ()
