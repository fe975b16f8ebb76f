"""Download: a base model comes from the hub into its cache, by our tool in the trainer's Python."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training_cluster.adapters.llamafactory.tasks import (
    OUTPUT,
    TOOLS_CONFIG,
    Programs,
    read_json,
    write_json,
)
from training_cluster.domain.disk import DiskNeed
from training_cluster.domain.errors import FieldProblem, InvalidRequest
from training_cluster.domain.hub import is_hub_id
from training_cluster.domain.spec import DOWNLOAD, JobSpec
from training_cluster.ports import Assignment, Dataset

_NEED_BYTES = 1 << 20  # what comes lies in the hub's cache, which all jobs share
_FETCHED = "fetched.json"


class Download:
    """Implements `Task`."""

    def check(self, spec: JobSpec) -> tuple[str, ...]:
        """Only the hub's models can be fetched. Raises InvalidRequest."""
        if not is_hub_id(spec.model_name):
            message = f"{spec.model_name!r} is no name of the hub's"
            problem = FieldProblem("name", message, "a hub id such as Qwen/Qwen2.5-1.5B-Instruct")
            raise InvalidRequest(message, problems=(problem,))
        return ()

    def disk_need(self, spec: JobSpec, environment: Mapping[str, str]) -> DiskNeed:
        """Hardly anything below the state directory."""
        return DiskNeed(0, 0, _NEED_BYTES)

    def command(
        self, spec: JobSpec, dataset: Dataset | None, assignment: Assignment, programs: Programs
    ) -> tuple[str, ...]:
        """Write task.json; the token is not in it."""
        task, output = assignment.directory / TOOLS_CONFIG, assignment.directory / OUTPUT
        output.mkdir(exist_ok=True)
        told = {
            "name": spec.model_name,
            "revision": spec.options.get("revision"),
            "fetched": str(output / _FETCHED),
            "log": str(output / "trainer_log.jsonl"),
        }
        write_json(task, told)
        return (*programs.download, "download", str(task))

    def result(self, spec: JobSpec, directory: Path) -> dict[str, Any] | None:
        """What is in the cache now."""
        content = read_json(directory / OUTPUT / _FETCHED)
        return None if content is None else {"kind": "base_model", **content}


def with_hub_token(
    environment: dict[str, str], spec: JobSpec, folder: Path | None
) -> dict[str, str]:
    """The environment with the file of the token that a download has of its own, and without the
    daemon's, which would go first."""
    named = spec.options.get("token_ref")
    if spec.kind != DOWNLOAD or folder is None or not isinstance(named, str):
        return environment
    others = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
    kept = {name: value for name, value in environment.items() if name not in others}
    return {**kept, "HF_TOKEN_PATH": str(folder / named)}
