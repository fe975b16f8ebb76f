"""Uploads runs that were kept offline: what their files hold is told to W&B again, online.

Not by W&B's own command: that one stops at a torn file, uploads none when one is empty, and
uploads a run a second time from its beginning when it was interrupted.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

from .protocol import Failure
from .wandb_files import RunFile, run_files, values
from .wandb_runs import WandbRuns

STEP = "train/global_step"


def upload(directories: list[str]) -> int:
    """Upload the runs of directories (`wandb/offline-run-...`, below the current one) to
    WANDB_BASE_URL, and mark each as W&B does when all of it has arrived. How many failed."""
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        server = os.environ.get("WANDB_BASE_URL")
        runs = WandbRuns({"folder": scratch, "mode": "online", "base_url": server})
        for run_id in dict.fromkeys(run_id for name in directories for run_id in _run_ids(name)):
            failed += not _upload(runs, run_id, directories)
    return failed


def _run_ids(directory: str) -> list[str]:
    found = (re.fullmatch(r"run-(.+)\.wandb", path.name) for path in Path(directory).iterdir())
    return sorted(match[1] for match in found if match)


def _upload(runs: WandbRuns, run_id: str, directories: list[str]) -> bool:
    try:
        files = run_files(os.getcwd(), run_id)
        told = _tell(runs, run_id, files) if files else "there is nothing in it"
    except Failure as failure:
        sys.stderr.write(f"{run_id}: {failure}\n")
        return False
    except Exception as error:
        traceback.print_exception(error)
        return False
    for directory in directories:
        if (file := Path(directory, f"run-{run_id}.wandb")).exists():
            file.with_suffix(".wandb.synced").touch()
    sys.stdout.write(f"{run_id}: {told}\n")
    return True


def _tell(runs: WandbRuns, run_id: str, files: list[RunFile]) -> str:
    lines = [_line(*row) for row in enumerate(row for file in files for row in file.rows)]
    opened = runs.open(run_id, _run(files[-1]))
    runs.log(run_id, lines[opened["recorded"] :])
    runs.finish(run_id, _ending(files, len(lines)))
    return f"{len(lines)} lines are at {opened['url']}"


def _run(file: RunFile) -> dict[str, Any]:
    config = values(file.run.config.update)
    config.pop("_wandb", None)
    return {
        "name": file.run.display_name,
        "project": file.run.project,
        "entity": file.run.entity or None,
        "tags": config.pop("training_cluster", {}),
        "labels": list(file.run.tags),
        "parameters": config,
    }


def _line(position: int, row: dict[str, Any]) -> list[Any]:
    told = {name: value for name, value in row.items() if not name.startswith("_")}
    return [position, told.get(STEP, 0), row["_timestamp"], told]


def _ending(files: list[RunFile], lines: int) -> dict[str, Any]:
    last = files[-1]
    summary = {name: value for file in files for name, value in file.summary.items()}
    status = summary.pop("status", "completed" if last.exit_code == 0 else "failed")
    return {
        "status": status,
        "lines": lines,
        "message": summary.pop("message", ""),
        "summary": {name: value for name, value in summary.items() if not name.startswith("_")},
        "artifacts": {name: path for file in files for name, path in _saved(file)},
    }


def _saved(file: RunFile) -> list[tuple[str, str]]:
    folder = os.path.join(os.path.dirname(file.path), "files")
    return [(name, os.path.join(folder, name)) for name in file.saved]
