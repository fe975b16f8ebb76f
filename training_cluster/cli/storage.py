"""Commands over the state directory itself: backup, restore, rebuild."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from training_cluster.cli import terminal
from training_cluster.cli.options import ConfigFile, Json

if TYPE_CHECKING:
    from training_cluster.daemon.upkeep import Rebuilt
    from training_cluster.services.rebuilding import Findings
    from training_cluster.settings import Settings

StateDir = Annotated[
    Path | None, typer.Option(help="The state directory; default: the settings' own.")
]
Force = Annotated[bool, typer.Option("--force", help="Although a database is there, or whole.")]


def backup(
    target: Annotated[
        Path, typer.Argument(metavar="DEST", help="A new folder, or where to make one.")
    ],
    with_secrets: Annotated[
        bool,
        typer.Option("--with-secrets", help="Addresses of webhooks too, readable by you only."),
    ] = False,
    state_dir: StateDir = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Copy the queue as it is now; the daemon may run. Models and logs are not in it."""
    from training_cluster.daemon import upkeep

    settings = _settings(config, state_dir)
    with _progress() as say:
        made = upkeep.back_up(settings, target.absolute(), with_secrets=with_secrets, say=say)
    if as_json:
        terminal.document({"path": made})
    else:
        terminal.say(str(made))


def restore(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="A folder that `backup` made.")],
    force: Force = False,
    state_dir: StateDir = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Go back to a backup; the daemon must not run. What was launched since is not launched again:
    the job directories tell."""
    from training_cluster.daemon import upkeep

    settings = _settings(config, state_dir)
    with _progress() as say:
        done = upkeep.restore(settings, source.absolute(), force=force, say=say)
    if as_json:
        terminal.document(asdict(done))
        return
    terminal.say(f"restored {done.manifest['jobs']} jobs to {settings.state_dir}")
    _tell_directories(done.directories)
    if done.manifest.get("secrets") is None:
        terminal.warn("the backup has no secrets: webhooks without their address are not told")
    _tell_aside(done.aside)


def rebuild(
    force: Force = False,
    state_dir: StateDir = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Make a damaged database again of what can be read of it and of the job directories; the
    daemon must not run. The damaged one is kept."""
    from training_cluster.daemon import upkeep

    settings = _settings(config, state_dir)
    with _progress() as say:
        done = upkeep.rebuild(settings, force=force, say=say)
    if as_json:
        terminal.document(asdict(done))
        return
    _tell_tables(done)
    _tell_directories(done.directories)
    _tell_aside(done.aside)


def _settings(config: Path | None, state_dir: Path | None) -> Settings:
    from training_cluster.settings import load_settings

    return load_settings(config, state_dir=state_dir)


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A line on a terminal that says how far it is; nothing in a pipe."""
    shown = sys.stderr.isatty()

    def say(what: str, done: int, total: int) -> None:
        if shown and (done == total or done % 64 == 0):
            sys.stderr.write(f"\r\x1b[K{what}: {done} of {total}" if total else f"\r\x1b[K{what}")
            sys.stderr.flush()

    try:
        yield say
    finally:
        if shown:
            sys.stderr.write("\r\x1b[K")


def _tell_tables(done: Rebuilt) -> None:
    for name, told in done.tables.items():
        words = f"{name}: {told.kept} rows"
        if told.refused:
            words += f", {told.refused} made no sense"
        if told.is_damaged:
            words += ", others could not be read"
        terminal.say(words)
    if done.dropped_rows:
        terminal.say(f"{done.dropped_rows} rows belonged to nothing any more")


def _tell_directories(found: Findings) -> None:
    counts: dict[str, Any] = asdict(found)
    words = {
        "directories": "job directories",
        "added": "jobs known by their directory only",
        "running": "attempts that the next daemon adopts or looks after",
        "finished": "attempts whose end was read from their directory",
        "queued": "jobs put back into the queue",
        "unstarted": "directories of jobs that never started and cannot be named",
        "lost": "jobs under way without a directory: failed as lost",
    }
    for name, text in words.items():
        if counts[name]:
            terminal.say(f"{counts[name]} {text}")
    for folder in found.unknown:
        terminal.warn(f"{folder} has no record that can be read: left as it is")


def _tell_aside(aside: Path | None) -> None:
    if aside is not None:
        terminal.say(f"the old database is kept as {aside}")


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    app.command()(backup)
    app.command()(restore)
    app.command()(rebuild)
