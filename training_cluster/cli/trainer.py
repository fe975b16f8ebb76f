"""Commands over the trainer's environment: trainer install, trainer check, tiny-model."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import training_cluster
from training_cluster.cli import environments, terminal
from training_cluster.cli.options import ConfigFile, Json

if TYPE_CHECKING:
    from training_cluster.settings import Settings

trainer = typer.Typer(help="The trainer's own Python environment: LLaMA-Factory and PyTorch.")

INSTALL = "training-cluster trainer install"
_TOOLS = Path(training_cluster.__file__).parent / "trainer_tools"


def environment_of(settings: Settings) -> Path:
    """Where the trainer environment is, or will be."""
    from training_cluster import trainer_environment

    chosen = settings.trainer.environment_dir
    return chosen or trainer_environment.environment_path(settings.data_dir)


@trainer.callback()
def group() -> None:
    """The trainer's own Python environment: LLaMA-Factory and PyTorch."""


@trainer.command()
def install(config: ConfigFile = None, as_json: Json = False) -> None:
    """Install LLaMA-Factory and PyTorch from the tested pins (about 7 GB, minutes)."""
    from training_cluster.settings import load_settings
    from training_cluster.trainer_environment import TRAINER

    settings = load_settings(config)
    environments.install_in(
        settings.data_dir, TRAINER, chosen=settings.trainer.environment_dir,
        setting="trainer.environment_dir", as_json=as_json,
    )  # fmt: skip


@trainer.command()
def check(config: ConfigFile = None, as_json: Json = False) -> None:
    """Import what trainers import, and report; takes some seconds."""
    from training_cluster import trainer_environment
    from training_cluster.settings import load_settings

    path = environment_of(load_settings(config))
    findings = trainer_environment.check(path)
    environments.tell_findings(path, findings, INSTALL, as_json=as_json)


def tiny_model(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty directory.")],
    corpus: Annotated[
        Path | None, typer.Option(help="A dataset file whose words the tokenizer learns.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed makes the same model.")] = 0,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Make a tiny model to try things with: it trains in seconds, on a CPU too."""
    words = [str(directory.absolute()), "--seed", str(seed)]
    if corpus is not None:
        words += ["--corpus", str(corpus.absolute())]
    done = subprocess.run(
        [_interpreter(config), "-I", _TOOLS / "tiny_model.py", *words],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        terminal.complain((done.stderr.strip().splitlines() or ["it cannot be made"])[-1])
        raise typer.Exit(1)
    if as_json:
        terminal.document({"path": directory.absolute()})
    else:
        terminal.say(str(directory))


def _interpreter(config: Path | None) -> Path:
    from training_cluster.settings import load_settings
    from training_cluster.trainer_environment import TRAINER, python

    path = environment_of(load_settings(config))
    environments.require(TRAINER, path)
    return python(path)


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    app.add_typer(trainer, name="trainer")
    app.command("tiny-model")(tiny_model)
