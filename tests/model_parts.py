"""Models for tests that are not about making them: registered in the store of a daemon that runs,
with real files, for a job that need not have run."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from training_cluster.domain.model import Model
from training_cluster.store import jobs, models
from training_cluster.store.database import connect

FILES = {
    "adapter_config.json": b'{"peft_type": "LORA"}',
    "adapter_model.safetensors": b"\x10\0\0\0\0\0\0\0" + b"w" * 3000,
    "README.md": b"---\nlibrary_name: peft\n---\n# a model\n",
}


def put_model(
    state: Path,
    job_id: str,
    user: str,
    *,
    name: str | None = None,
    kind: str = "lora_adapter",
    files: dict[str, bytes] | None = None,
) -> Model:
    """Register what a job would have left if it had completed by now."""
    folder = state / "jobs" / job_id / "attempt-1" / "output"
    folder.mkdir(parents=True, exist_ok=True)
    chosen = FILES if files is None else files
    for file, content in chosen.items():
        (folder / file).write_bytes(content)
    result = {
        "path": str(folder),
        "kind": kind,
        "base_model": "Qwen/Qwen2.5-1.5B-Instruct",
        "dataset": {"version": "v1.0", "sha256": "5d" * 32},
        "size_bytes": sum(path.stat().st_size for path in folder.iterdir()),
        "files": sorted(path.name for path in folder.iterdir()),
        "first_loss": 2.5,
        "final_loss": 0.5,
    }
    with closing(connect(state / "queue.db")) as connection:
        job = jobs.find(connection, job_id)
        spec = replace(job.spec, save_name=name or f"model-of-{user}-{job.number}")
        job = replace(job, attempt_number=1, spec=spec)
        connection.execute("BEGIN IMMEDIATE")
        key = models.register(connection, job, result, time.time())
        assert key is not None
        connection.execute("COMMIT")
        return models.find(connection, key)
