"""A model's card: what the trainer wrote, and where the model comes from. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from training_cluster.domain.model import Model

_FENCE = "---\n"
_FOLDER = "output"
_LEFT_OUT = frozenset({"webhook_url", "tracking", "tracking_backend", "priority", "depends_on"})
_UNUSED: tuple[Any, ...] = (None, "", [], {})


def card(model: Model, readme: str | None) -> str:
    """Markdown with front matter, that of the trainer's own `readme` if there is one."""
    front, body = _split(_named(readme or "", model.key))
    if not front:
        front = f"base_model: {json.dumps(model.base_model)}\n"
    title = "" if body else f"# {model.key}\n\n"
    own = f"{body.rstrip()}\n\n" if body else ""
    return f"{_FENCE}{front}{_FENCE}\n{title}{own}{_lineage(model)}"


def _named(readme: str, key: str) -> str:
    """The trainer calls every model by the folder it wrote to."""
    readme = readme.replace(f"\n- name: {_FOLDER}\n", f"\n- name: {key}\n", 1)
    return readme.replace(f"\n# {_FOLDER}\n", f"\n# {key}\n", 1)


def _split(readme: str) -> tuple[str, str]:
    """Front matter and what follows it."""
    if not readme.startswith(_FENCE):
        return "", readme.strip()
    front, fence, body = readme[len(_FENCE) :].partition(f"\n{_FENCE}")
    return (f"{front}\n", body.strip()) if fence else ("", readme.strip())


def _lineage(model: Model) -> str:
    rows = {
        "model": model.key,
        "kind": model.kind.value,
        "base model": model.base_model,
        "made from": model.parent_id,
        "job": f"{model.job_number} ({model.job_id}), attempt {model.attempt}",
        "user": model.user,
        "dataset": model.dataset,
        "sha256 of the dataset": model.dataset_sha256,
        "registered": datetime.fromtimestamp(model.created_at, UTC).isoformat(timespec="seconds"),
        **{name.replace("_", " "): f"{value:.6g}" for name, value in model.metrics.items()},
    }
    told = {name: value for name, value in rows.items() if value}
    table = "\n".join(f"| {name} | {_cell(value)} |" for name, value in told.items())
    return (
        "## Where this model comes from\n\n"
        f"| | |\n|---|---|\n{table}\n\n"
        f"The job's configuration:\n\n```json\n{_config(model.config)}\n```\n"
    )


def _cell(value: str) -> str:
    return value.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def _config(config: Mapping[str, Any]) -> str:
    kept = {k: v for k, v in config.items() if k not in _LEFT_OUT and v not in _UNUSED}
    return json.dumps(kept, indent=1, ensure_ascii=False).replace("`", "\\u0060")
