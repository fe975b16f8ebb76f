"""Tells a process that crashed while it was taken down, its work done, from one that failed.

Threads of torch, NCCL or a driver may abort an interpreter that exits; what was trained is on the
disk by then. The trainer writes its files in an order of its own, of which the last ones are looked
for.
"""

from __future__ import annotations

import json
from pathlib import Path

from training_cluster.adapters.llamafactory.checkpoints import is_whole, model_kind, read_state
from training_cluster.adapters.llamafactory.record import read_parameters
from training_cluster.adapters.llamafactory.result import sizes_of
from training_cluster.domain.job import Progress


def had_saved_everything(directory: Path, reached: Progress | None) -> bool:
    """Whether an attempt wrote all that it writes after its last step: the model, the trainer's
    state, the results of the training and those of the evaluation if it has one."""
    output = directory / "output"
    if reached is None or not output.is_dir():
        return False
    names = sizes_of(output)
    return (
        model_kind(names) is not None
        and all(is_whole(output / name) for name in names)
        and read_state(output).get("global_step") == reached.step
        and all(_is_json(output / name) for name in _last_written(directory))
    )


def _last_written(directory: Path) -> tuple[str, ...]:
    # transformers sets do_eval where there is a strategy; LLaMA-Factory evaluates after training
    strategy = read_parameters(directory / "config.yaml").get("eval_strategy", "no")
    evaluated = ("eval_results.json",) if strategy != "no" else ()
    return ("train_results.json", *evaluated, "all_results.json")


def _is_json(file: Path) -> bool:
    try:
        json.loads(file.read_bytes())
    except (OSError, ValueError):
        return False
    return True
