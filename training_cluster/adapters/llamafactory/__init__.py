"""LLaMA-Factory behind the Trainer port: how to ask it for a job, and how to read what it says."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from training_cluster.adapters.llamafactory.check import check
from training_cluster.adapters.llamafactory.config import training_config, yaml_text
from training_cluster.adapters.llamafactory.datasets import dataset_info
from training_cluster.adapters.llamafactory.environment import trainer_environment
from training_cluster.adapters.llamafactory.progress import parse_line
from training_cluster.adapters.llamafactory.recipes import RecipeDirectory
from training_cluster.adapters.llamafactory.record import find_artifacts, read_parameters
from training_cluster.adapters.llamafactory.verdict import judge
from training_cluster.domain.job import Progress, TrainingPoint, Verdict
from training_cluster.domain.spec import JobSpec
from training_cluster.ports import Assignment, Dataset, Exit, Launch


class LlamaFactoryTrainer:
    """Implements `ports.Trainer` and `TrainingRecord`; `command` is given `train <config>`."""

    def __init__(
        self,
        *,
        command: tuple[str, ...],
        recipe_dir: Path,
        grace_seconds: float,
        daemon_environment: Mapping[str, str],
        pass_environment: tuple[str, ...],
    ) -> None:
        self._command = command
        self._recipes = RecipeDirectory(recipe_dir)
        self._grace_seconds = grace_seconds
        self._daemon_environment = daemon_environment
        self._pass_environment = pass_environment

    def check(self, spec: JobSpec, dataset: Dataset) -> tuple[str, ...]:
        """Hold a spec against what LLaMA-Factory can do; returns warnings."""
        return check(spec, self._recipes.load(spec.recipe), dataset)

    def prepare(self, spec: JobSpec, dataset: Dataset, assignment: Assignment) -> Launch:
        """Write config.yaml and dataset_info.json; tell how to launch on these devices."""
        recipe = self._recipes.load(spec.recipe)
        directory = assignment.directory
        config = directory / "config.yaml"
        _write(directory / "dataset_info.json", yaml_text(dataset_info(dataset)))
        _write(config, yaml_text(training_config(spec, recipe, dataset, assignment)))
        # LLaMA-Factory splits its torchrun command line at blanks (launcher.py).
        argument = config.name if re.search(r"\s", str(config)) else str(config)
        return Launch(
            ref=assignment.ref,
            directory=directory,
            argv=(*self._command, "train", argument),
            environment=trainer_environment(
                assignment, self._command, self._daemon_environment, self._pass_environment
            ),
            grace_seconds=self._grace_seconds,
            max_seconds=spec.max_seconds,
        )

    def progress_log(self, directory: Path) -> Path:
        """Where LLaMA-Factory appends one JSON line per logged step."""
        return directory / "output" / "trainer_log.jsonl"

    def parse(self, line: bytes) -> TrainingPoint | None:
        """Read one line of the progress log; None if it says nothing."""
        return parse_line(line)

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
        return judge(spec, directory, ending, progress)


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
