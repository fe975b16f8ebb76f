"""docs/overrides.md, made from the allow-list: `python -m tests.overrides_page` writes it anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from training_cluster.api.overrides import Overrides

PAGE = Path(__file__).parents[1] / "docs" / "overrides.md"
_HEAD = """\
# Overrides

What `overrides` of a job may set: LLaMA-Factory's own keys, each with its type and bounds. Whatever
is not here is refused with 422, the key named. Left out, a key has what the recipe says, else the
default.

```bash
curl -X POST http://localhost:23478/train \\
  -H "Content-Type: application/json" \\
  -d '{"overrides": {"max_steps": 200, "lr_scheduler_type": "cosine", "seed": 7}}'
```

| key | type and bounds | meaning |
|---|---|---|
"""
_TAIL = """
## What no request can set

- **Code and places**: `trust_remote_code`, `output_dir`, `dataset_dir`, `media_dir`,
  `tokenized_path`, `cache_dir`, adapters, checkpoints, reference and reward models by path,
  `deepspeed` and `fsdp` files, profiler and export folders. The daemon makes the directories.
- **What speaks to others**: `report_to`, `push_to_hub` and all `hub_*`, `swanlab_*`, `trackio_*`,
  `ray_*`, `reward_model_type`, `master_addr`. Trackers are told by the daemon.
- **Secrets**: every token and key. Trainers get them by the environment, from the operator.
- **What the daemon sets**: `do_train`, `save_only_model`, `overwrite_output_dir`,
  `enable_jit_checkpoint`, `dataset`, and the keys of a job's own fields (`batch_size` and so on).

Recipes are the operator's files and may set any key of LLaMA-Factory but secrets and what the
daemon sets itself. Text with `${` is refused everywhere: the trainer would resolve it.
"""


def page() -> str:
    """The whole page."""
    fields = Overrides.model_json_schema()["properties"].items()
    rows = (
        f"| `{name}` | {_kind(field['anyOf'][0])} | {field['description']} |"
        for name, field in fields
    )
    return _HEAD + "\n".join(rows) + "\n" + _TAIL


def _kind(rule: dict[str, Any]) -> str:
    if "enum" in rule:
        return ", ".join(f"`{json.dumps(value)}`" for value in rule["enum"])
    kind = {"integer": "whole number", "number": "number", "boolean": "`true` or `false`"}
    return kind[rule["type"]] + _bounds(rule)


def _bounds(rule: dict[str, Any]) -> str:
    low = _bound(rule, "minimum", "from", "exclusiveMinimum", "above")
    high = _bound(rule, "maximum", "to", "exclusiveMaximum", "below")
    return "".join(f" {bound}" for bound in (low, high) if bound)


def _bound(rule: dict[str, Any], closed: str, word: str, opened: str, other: str) -> str:
    if closed in rule:
        return f"{word} {rule[closed]:,}"
    return f"{other} {rule[opened]:,}" if opened in rule else ""


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
