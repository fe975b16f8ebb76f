"""What a model name may be: a hub id by pattern, or a directory below a configured root."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from training_cluster.domain.errors import FieldProblem, ModelNotAllowed

_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_HUB_ID = re.compile(rf"{_PART}/{_PART}")
_EXPECTED = "a hub id such as Qwen/Qwen2.5-1.5B-Instruct, or an absolute path below a model root"


@dataclass(frozen=True, slots=True)
class ModelNames:
    """The operator's model roots."""

    roots: Sequence[Path]

    def resolve(self, name: str) -> str:
        """The name to give to the trainer: a hub id as it is, a path with its links resolved.

        Raises ModelNotAllowed.
        """
        if _HUB_ID.fullmatch(name) and ".." not in name:
            return name
        if not os.path.isabs(name):
            raise _refusal(f"{name!r} is neither a hub id nor an absolute path")
        real = Path(os.path.realpath(name))
        if not any(real.is_relative_to(os.path.realpath(root)) for root in self.roots):
            raise _refusal(f"{name!r} is not below a model root ({self._listed()})")
        if not (real / "config.json").is_file():
            raise _refusal(f"{name!r} is not a model directory: it has no config.json")
        return str(real)

    def _listed(self) -> str:
        return ", ".join(str(root) for root in self.roots) or "none is configured: set model_roots"


def _refusal(message: str) -> ModelNotAllowed:
    problem = FieldProblem("model_name", message, _EXPECTED)
    return ModelNotAllowed(message, problems=(problem,), hint="see model_roots in the settings")
