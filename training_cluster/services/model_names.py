"""What a model name may be: a hub id by pattern, or a directory below a configured root."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from training_cluster.domain.errors import FieldProblem, ModelNotAllowed
from training_cluster.domain.hub import is_hub_id
from training_cluster.domain.spec import JobSpec

_EXPECTED = (
    "a hub id such as Qwen/Qwen2.5-1.5B-Instruct, an absolute path below a model root, or a "
    "registered model such as chat@v2"
)


@dataclass(frozen=True, slots=True)
class ModelNames:
    """The operator's model roots, and where the results of jobs lie."""

    roots: Sequence[Path]
    results: Path | None = None

    def locate(self, spec: JobSpec) -> JobSpec:
        """The spec with the names to give to the trainer: a registered model lies where results
        lie, any other as `resolve` says. Raises ModelNotAllowed."""
        if spec.model_id is None and spec.checkpoint is None:
            return replace(spec, model_name=self.resolve(spec.model_name))
        name = self._result(spec.model_name, "config.json") or self.resolve(spec.model_name)
        if spec.adapter is None:
            return replace(spec, model_name=name)
        adapter = self._result(spec.adapter, "adapter_config.json")
        if adapter is None:
            raise _refusal(f"{spec.adapter!r} is gone, or holds no LoRA adapter")
        return replace(spec, model_name=name, adapter=adapter)

    def _result(self, name: str, content: str) -> str | None:
        """A folder among the results of jobs that has this file in it."""
        if self.results is None or not os.path.isabs(name):
            return None
        real = _real(name)
        inside = real.is_relative_to(os.path.realpath(self.results))
        return str(real) if inside and os.path.isfile(real / content) else None

    def resolve(self, name: str) -> str:
        """The name to give to the trainer: a hub id as it is, a path with its links resolved.

        Raises ModelNotAllowed.
        """
        if is_hub_id(name):
            return name
        if not os.path.isabs(name):
            raise _refusal(f"{name!r} is neither a hub id nor an absolute path")
        real = _real(name)
        if not any(real.is_relative_to(os.path.realpath(root)) for root in self.roots):
            raise _refusal(f"{name!r} is not below a model root ({self._listed()})")
        if not os.path.isfile(real / "config.json"):
            raise _refusal(f"{name!r} is not a model directory: it has no config.json")
        return str(real)

    def _listed(self) -> str:
        return ", ".join(str(root) for root in self.roots) or "none is configured: set model_roots"


def _real(name: str) -> Path:
    try:
        return Path(os.path.realpath(name))
    except ValueError:
        raise _refusal(f"{name!r} is no path: it contains the character NUL") from None


def _refusal(message: str) -> ModelNotAllowed:
    problem = FieldProblem("model_name", message, _EXPECTED)
    return ModelNotAllowed(message, problems=(problem,), hint="see model_roots in the settings")
