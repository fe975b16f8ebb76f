"""Export: a LoRA adapter is merged into its base model by LLaMA-Factory, which saves all of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training_cluster.adapters.llamafactory.checkpoints import is_whole_model
from training_cluster.adapters.llamafactory.config import refuse_interpolations, yaml_text
from training_cluster.adapters.llamafactory.disk_need import model_bytes
from training_cluster.adapters.llamafactory.result import sizes_of
from training_cluster.adapters.llamafactory.tasks import OUTPUT, Programs
from training_cluster.domain.disk import DiskNeed
from training_cluster.domain.errors import FieldProblem, InvalidRequest
from training_cluster.domain.spec import JobSpec
from training_cluster.ports import Assignment, Dataset

_SHARD_GB = 5


class Export:
    """Implements `Task`."""

    def check(self, spec: JobSpec) -> tuple[str, ...]:
        """Only a LoRA adapter can be merged. Raises InvalidRequest."""
        if spec.adapter is None:
            message = "this model has all its weights already: there is nothing to merge"
            problem = FieldProblem("model", message, "a model of the kind adapter")
            raise InvalidRequest(message, problems=(problem,))
        if "," in spec.adapter:  # LLaMA-Factory splits the names of adapters there
            raise InvalidRequest(f"the path {spec.adapter} has a comma in it")
        refuse_interpolations(_config(spec, Path(), on_device=False))
        return ()

    def disk_need(self, spec: JobSpec, environment: Mapping[str, str]) -> DiskNeed:
        """A whole model."""
        return DiskNeed(0, 0, model_bytes(spec.model_name, environment))

    def command(
        self, spec: JobSpec, dataset: Dataset | None, assignment: Assignment, programs: Programs
    ) -> tuple[str, ...]:
        """Write config.yaml."""
        config = assignment.directory / "config.yaml"
        on_device = bool(assignment.devices)
        text = yaml_text(_config(spec, assignment.directory / OUTPUT, on_device=on_device))
        config.write_text(text, encoding="utf-8")
        return (*programs.trainer, "export", str(config))

    def result(self, spec: JobSpec, directory: Path) -> dict[str, Any] | None:
        """The merged model."""
        output = directory / OUTPUT
        if not is_whole_model(output):
            return None
        sizes = sizes_of(output)
        return {
            "path": str(output),
            "kind": "merged_model",
            "base_model": spec.model_name,
            "save_name": spec.save_name,
            "size_bytes": sum(sizes.values()),
            "files": sorted(sizes),
        }


def _config(spec: JobSpec, output: Path, *, on_device: bool) -> dict[str, Any]:
    return {
        "model_name_or_path": spec.model_name,
        "adapter_name_or_path": spec.adapter,
        "template": spec.template,
        "finetuning_type": "lora",
        "trust_remote_code": False,
        "export_dir": str(output),
        "export_size": _SHARD_GB,
        "export_device": "auto" if on_device else "cpu",
        "export_legacy_format": False,
    }
