"""Where the tokenizer of a model lies on this machine: in its folder, or in the hub's cache."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_FILE = "tokenizer.json"


class Tokenizers:
    """Looks below the model roots and in the cache that the environment names."""

    def __init__(self, roots: Sequence[Path], environment: Mapping[str, str]) -> None:
        self._roots = roots
        home = environment.get("HF_HOME") or f"{environment.get('HOME', '')}/.cache/huggingface"
        self._cache = Path(environment.get("HF_HUB_CACHE") or f"{home}/hub")

    def find(self, model: str) -> Path | None:
        """The folder with the model's tokenizer; None where there is none to be found."""
        if os.path.isabs(model) and "\0" not in model:
            real = Path(os.path.realpath(model))
            inside = any(real.is_relative_to(os.path.realpath(root)) for root in self._roots)
            return real if inside and (real / _FILE).is_file() else None
        if not _HUB_ID.fullmatch(model) or ".." in model:
            return None
        snapshots = self._cache / f"models--{model.replace('/', '--')}" / "snapshots"
        found = sorted(snapshots.glob(f"*/{_FILE}"), key=lambda file: file.stat().st_mtime)
        return found[-1].parent if found else None
