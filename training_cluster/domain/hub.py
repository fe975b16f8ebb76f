"""The cache of the model hub: where it is, and how a model's folder in it is called."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_HUB_ID = re.compile(rf"{_PART}/{_PART}")


def is_hub_id(name: str) -> bool:
    """Whether a name has the form `owner/name` that the hub's have."""
    return _HUB_ID.fullmatch(name) is not None and ".." not in name


def hub_cache(environment: Mapping[str, str]) -> Path:
    """Where trainers with this environment keep what they have from the hub."""
    if chosen := environment.get("HF_HUB_CACHE"):
        return Path(chosen)
    home = environment.get("HF_HOME") or os.path.join(
        environment.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "huggingface"
    )
    return Path(home) / "hub"


def folder_of(name: str) -> str:
    """What the cache calls the folder of a hub id."""
    return f"models--{name.replace('/', '--')}"


def name_of(folder: str) -> str | None:
    """The hub id whose folder in the cache is called so; None for another folder."""
    owner, _, name = folder.removeprefix("models--").partition("--")
    known = folder.startswith("models--") and is_hub_id(f"{owner}/{name}")
    return f"{owner}/{name}" if known else None
