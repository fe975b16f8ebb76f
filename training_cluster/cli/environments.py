"""What the commands over the trainer's and the trackers' environment share: install and check."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from training_cluster.cli import terminal

if TYPE_CHECKING:
    from training_cluster.pinned_environment import Check, PinnedEnvironment


def install_in(
    data_dir: Path,
    environment: PinnedEnvironment,
    *,
    chosen: Path | None,
    setting: str,
    as_json: bool,
) -> None:
    """Install an environment; refuse where `setting` names a `chosen` one that exists already."""
    from training_cluster.pinned_environment import PinnedEnvironmentError

    if chosen is not None:
        terminal.complain(
            f"the settings name {chosen} as {environment.title}",
            f"unset {setting} to have one made",
        )
        raise typer.Exit(1)
    say = terminal.note if as_json else terminal.say
    try:
        path = environment.install(data_dir, say)
    except (PinnedEnvironmentError, OSError) as error:
        cure = f"what is there is kept: run `{environment.install_command}` again"
        terminal.complain(str(error), cure)
        raise typer.Exit(1) from error
    if as_json:
        terminal.document({"path": path, "complete": True})


def tell_findings(path: Path, findings: list[Check], cure: str, *, as_json: bool) -> None:
    """Print what a look into an environment found; exits 1 when something is wrong."""
    fine = all(finding.ok for finding in findings)
    if as_json:
        terminal.document({"path": path, "ok": fine, "checks": [asdict(f) for f in findings]})
    for finding in findings:
        if not finding.ok:
            terminal.complain(f"{finding.name}: {finding.detail}")
        elif not as_json:
            terminal.say(f"ok    {finding.name}: {finding.detail}")
    if not fine:
        terminal.note(f"hint: {cure}")
        raise typer.Exit(1)


def require(environment: PinnedEnvironment, path: Path) -> None:
    """Complain and exit 1 unless this environment may be used."""
    if not environment.is_complete(path):
        what = f"there is no complete {environment.title} in {path}"
        terminal.complain(what, environment.install_command)
        raise typer.Exit(1)
