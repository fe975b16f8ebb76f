"""What jobs of other kinds than train have in common: how they start, and what an end means."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from training_cluster.adapters.llamafactory import verdict
from training_cluster.domain.disk import DiskNeed
from training_cluster.domain.job import Outcome, Progress, Verdict
from training_cluster.domain.spec import JobSpec
from training_cluster.ports import Assignment, Dataset, Exit

OUTPUT = "output"
TOOLS_CONFIG = "task.json"


@dataclass(frozen=True, slots=True)
class Programs:
    """What is executed: LLaMA-Factory's command line, which is given `export <config>`, and what
    is given `evaluate <task>` and `download <task>`."""

    trainer: tuple[str, ...]
    evaluate: tuple[str, ...]
    download: tuple[str, ...]


class Task(Protocol):
    """One kind of job."""

    def check(self, spec: JobSpec) -> tuple[str, ...]:
        """Warnings. Raises InvalidRequest."""
        ...

    def disk_need(self, spec: JobSpec, environment: Mapping[str, str]) -> DiskNeed:
        """What an attempt is likely to write."""
        ...

    def command(
        self, spec: JobSpec, dataset: Dataset | None, assignment: Assignment, programs: Programs
    ) -> tuple[str, ...]:
        """Write the files of an attempt; returns the words that execute it."""
        ...

    def result(self, spec: JobSpec, directory: Path) -> dict[str, Any] | None:
        """What an attempt that came to its end has left; None when that is not all there."""
        ...


def judge(
    task: Task, spec: JobSpec, directory: Path, ending: Exit, progress: Progress | None
) -> Verdict:
    """The verdict on an ended attempt: it is complete when what it was to leave is there."""
    result = task.result(spec, directory) if ending.code == 0 else None
    if result is not None:
        return Verdict(Outcome.COMPLETED, result=result)
    if ending.code == 0 and ending.stop_reason is None:
        message = "it ended with exit status 0 and did not leave what it was to leave"
        return Verdict(Outcome.TRAINER_ERROR, message, verdict.HINTS[Outcome.TRAINER_ERROR])
    found = verdict.judge(spec, directory, ending, progress)
    return replace(found, result=None, checkpoint=None)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write what a tool is told."""
    path.write_text(json.dumps(content), encoding="utf-8")


def read_json(path: Path) -> dict[str, Any] | None:
    """What a tool has left; None unless it is a whole JSON object."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None
