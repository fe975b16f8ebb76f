"""LLaMA-Factory behind the Trainer port: how to ask it for a job, and how to read what it says."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from training_cluster.adapters.llamafactory.check import check
from training_cluster.adapters.llamafactory.checkpoints import last_checkpoint
from training_cluster.adapters.llamafactory.config import (
    decided,
    finetuning_type,
    training_config,
    yaml_text,
)
from training_cluster.adapters.llamafactory.datasets import dataset_info
from training_cluster.adapters.llamafactory.disk_need import disk_need
from training_cluster.adapters.llamafactory.downloading import Download, with_hub_token
from training_cluster.adapters.llamafactory.environment import trainer_environment
from training_cluster.adapters.llamafactory.evaluating import Evaluate
from training_cluster.adapters.llamafactory.exporting import Export
from training_cluster.adapters.llamafactory.progress import parse_line
from training_cluster.adapters.llamafactory.recipes import RecipeDirectory
from training_cluster.adapters.llamafactory.record import find_artifacts, read_parameters
from training_cluster.adapters.llamafactory.tasks import Programs, Task
from training_cluster.adapters.llamafactory.tasks import judge as judge_task
from training_cluster.adapters.llamafactory.verdict import judge
from training_cluster.domain.disk import DiskNeed
from training_cluster.domain.job import Checkpoint, Progress, TrainingPoint, Verdict
from training_cluster.domain.spec import DOWNLOAD, EVALUATE, EXPORT, JobSpec
from training_cluster.ports import Assignment, Dataset, Exit, Launch


class LlamaFactoryTrainer:
    """Implements `ports.Trainer` and `TrainingRecord`. `command` is given `train <config>` and
    `export <config>`; `evaluate` and `download`, which stand in for it where they are given, are
    given their own name and a JSON file. `hub_tokens` is the folder of tokens that downloads have
    of their own."""

    def __init__(
        self,
        *,
        command: tuple[str, ...],
        evaluate: tuple[str, ...] | None = None,
        download: tuple[str, ...] | None = None,
        hub_tokens: Path | None = None,
        recipe_dir: Path,
        grace_seconds: float,
        daemon_environment: Mapping[str, str],
        pass_environment: tuple[str, ...],
    ) -> None:
        self._command = command
        self._hub_tokens = hub_tokens
        self._programs = Programs(command, evaluate or command, download or command)
        self._recipes = RecipeDirectory(recipe_dir)
        self._grace_seconds = grace_seconds
        self._daemon_environment = daemon_environment
        self._pass_environment = pass_environment

    def check(self, spec: JobSpec, dataset: Dataset | None) -> tuple[str, ...]:
        """Hold a spec against what LLaMA-Factory can do; returns warnings."""
        if task := _TASKS.get(spec.kind):
            return task.check(spec)
        return check(spec, self._recipes.load(spec.recipe), dataset)

    def settings(self, spec: JobSpec) -> Mapping[str, Any]:
        """What recipe, fields and overrides decide, by LLaMA-Factory's names."""
        return decided(spec, self._recipes.load(spec.recipe))

    def disk_need(self, spec: JobSpec, dataset: Dataset | None) -> DiskNeed:
        """What an attempt is likely to write."""
        if task := _TASKS.get(spec.kind):
            return task.disk_need(spec, self._daemon_environment)
        recipe = self._recipes.load(spec.recipe)
        return disk_need(spec, recipe, _required(dataset), self._daemon_environment)

    def prepare(self, spec: JobSpec, dataset: Dataset | None, assignment: Assignment) -> Launch:
        """Write the files of an attempt; tell how to launch it on these devices."""
        if task := _TASKS.get(spec.kind):
            argv = task.command(spec, dataset, assignment, self._programs)
        else:
            argv = self._training(spec, _required(dataset), assignment)
        return Launch(
            ref=assignment.ref,
            directory=assignment.directory,
            argv=argv,
            environment=with_hub_token(
                trainer_environment(
                    assignment, self._command, self._daemon_environment, self._pass_environment
                ),
                spec,
                self._hub_tokens,
            ),
            grace_seconds=self._grace_seconds,
            max_seconds=spec.max_seconds,
        )

    def _training(self, spec: JobSpec, dataset: Dataset, assignment: Assignment) -> tuple[str, ...]:
        """Write config.yaml and dataset_info.json."""
        recipe = self._recipes.load(spec.recipe)
        directory = assignment.directory
        config = directory / "config.yaml"
        _write(directory / "dataset_info.json", yaml_text(dataset_info(dataset)))
        _write(config, yaml_text(training_config(spec, recipe, dataset, assignment)))
        # LLaMA-Factory splits its torchrun command line at blanks (launcher.py).
        argument = config.name if re.search(r"\s", str(config)) else str(config)
        return (*self._command, "train", argument)

    def progress_log(self, directory: Path) -> Path:
        """Where LLaMA-Factory appends one JSON line per logged step."""
        return directory / "output" / "trainer_log.jsonl"

    def parse(self, line: bytes, since: Checkpoint | None = None) -> TrainingPoint | None:
        """Read one line of the progress log; None if it says nothing."""
        return parse_line(line, since)

    def checkpoint(
        self, spec: JobSpec, directory: Path, besides: Collection[Path] = ()
    ) -> Checkpoint | None:
        """The furthest complete checkpoint an attempt left. LLaMA-Factory cannot go on with a
        reward model that is not LoRA (hparams/parser.py): it begins at the start."""
        if spec.kind in _TASKS:
            return None
        recipe = self._recipes.load(spec.recipe)
        stage = str(spec.stage or recipe.get("stage") or "sft")
        if stage in ("rm", "ppo") and finetuning_type(spec, recipe) != "lora":
            return None
        return last_checkpoint(directory / "output", besides)

    def parameters(self, directory: Path) -> Mapping[str, bool | int | float | str | None]:
        """The configuration of an attempt, as it was written for LLaMA-Factory."""
        return read_parameters(directory / "config.yaml")

    def artifacts(self, directory: Path, *, model: bool) -> Mapping[str, Path]:
        """Configuration, loss plot and model card of an attempt; with `model` the weights too."""
        return find_artifacts(directory, model=model)

    def judge(
        self, spec: JobSpec, directory: Path, ending: Exit, progress: Progress | None
    ) -> Verdict:
        """Decide what an ended attempt amounts to."""
        if task := _TASKS.get(spec.kind):
            return judge_task(task, spec, directory, ending, progress)
        return judge(spec, directory, ending, progress)


_TASKS: Mapping[str, Task] = {EXPORT: Export(), EVALUATE: Evaluate(), DOWNLOAD: Download()}


def _required(dataset: Dataset | None) -> Dataset:
    assert dataset is not None, "a training has a dataset"
    return dataset


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
