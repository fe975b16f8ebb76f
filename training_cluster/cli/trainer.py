"""Commands over the trainer's environment: trainer install, trainer check, tiny-model."""

from __future__ import annotations

import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import training_cluster
from training_cluster.cli import terminal
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
    from training_cluster import trainer_environment
    from training_cluster.settings import load_settings

    settings = load_settings(config)
    if settings.trainer.environment_dir is not None:
        terminal.complain(
            f"the settings name {settings.trainer.environment_dir} as trainer environment",
            "unset trainer.environment_dir to have one made",
        )
        raise typer.Exit(1)
    say = terminal.note if as_json else terminal.say
    try:
        path = trainer_environment.install(settings.data_dir, say)
    except (trainer_environment.TrainerEnvironmentError, OSError) as error:
        terminal.complain(str(error), f"what is there is kept: run `{INSTALL}` again")
        raise typer.Exit(1) from error
    if as_json:
        terminal.document({"path": path, "complete": True})


@trainer.command()
def check(config: ConfigFile = None, as_json: Json = False) -> None:
    """Import what trainers import, and report; takes some seconds."""
    from training_cluster import trainer_environment
    from training_cluster.settings import load_settings

    path = environment_of(load_settings(config))
    findings = trainer_environment.check(path)
    fine = all(finding.ok for finding in findings)
    if as_json:
        terminal.document({"path": path, "ok": fine, "checks": [asdict(f) for f in findings]})
    for finding in findings:
        if not finding.ok:
            terminal.complain(f"{finding.name}: {finding.detail}")
        elif not as_json:
            terminal.say(f"ok    {finding.name}: {finding.detail}")
    if not fine:
        terminal.note(f"hint: {INSTALL}")
        raise typer.Exit(1)


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
    from training_cluster import trainer_environment
    from training_cluster.settings import load_settings

    path = environment_of(load_settings(config))
    if not trainer_environment.is_complete(path):
        terminal.complain(f"there is no complete trainer environment in {path}", INSTALL)
        raise typer.Exit(1)
    return trainer_environment.python(path)


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    app.add_typer(trainer, name="trainer")
    app.command("tiny-model")(tiny_model)
