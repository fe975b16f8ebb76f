"""Commands over the trackers' environment: tracker install, tracker check."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from training_cluster.cli import environments
from training_cluster.cli.options import ConfigFile, Json

if TYPE_CHECKING:
    from training_cluster.settings import Settings

tracker = typer.Typer(help="The trackers' own Python environment: MLflow and W&B.")

INSTALL = "training-cluster tracker install"


def environment_of(settings: Settings) -> Path:
    """Where the tracker environment is, or will be."""
    from training_cluster.tracker_environment import used_path

    return used_path(settings.data_dir, settings.tracking.environment_dir)


def usable_python(settings: Settings) -> Path:
    """The interpreter of the tracker environment; complains and exits 1 without one."""
    from training_cluster.tracker_environment import TRACKER, python

    path = environment_of(settings)
    environments.require(TRACKER, path)
    return python(path)


@tracker.callback()
def group() -> None:
    """The trackers' own Python environment: MLflow and W&B."""


@tracker.command()
def install(config: ConfigFile = None, as_json: Json = False) -> None:
    """Install MLflow and W&B from the tested pins (about 1 GB, a minute)."""
    from training_cluster.settings import load_settings
    from training_cluster.tracker_environment import TRACKER

    settings = load_settings(config)
    environments.install_in(
        settings.data_dir, TRACKER, chosen=settings.tracking.environment_dir,
        setting="tracking.environment_dir", as_json=as_json,
    )  # fmt: skip


@tracker.command()
def check(config: ConfigFile = None, as_json: Json = False) -> None:
    """Import what the tracker worker imports, and report; takes some seconds."""
    from training_cluster import tracker_environment
    from training_cluster.settings import load_settings

    path = environment_of(load_settings(config))
    findings = tracker_environment.check(path)
    environments.tell_findings(path, findings, INSTALL, as_json=as_json)


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    app.add_typer(tracker, name="tracker")
