"""The doctor command: is everything here that a daemon needs, and if not, what to do."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from training_cluster.cli import terminal
from training_cluster.cli.options import ConfigFile, Json, Url

if TYPE_CHECKING:
    from training_cluster.cli.finding import Finding

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(
    quick: Annotated[
        bool, typer.Option("--quick", help="Do not import the trainer and the trackers (seconds).")
    ] = False,
    config: ConfigFile = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Check this machine, settings, trainer, trackers and daemon; exits 1 when one fails."""
    from training_cluster.cli.diagnosis import examine
    from training_cluster.cli.finding import Verdict

    findings = []
    for finding in examine(config, url, quick=quick):
        findings.append(finding)
        if not as_json:
            _show(finding)
    fine = all(finding.verdict is not Verdict.FAIL for finding in findings)
    if as_json:
        terminal.document({"ok": fine, "checks": [asdict(finding) for finding in findings]})
    if not fine:
        raise typer.Exit(1)


def _show(finding: Finding) -> None:
    word = finding.verdict.value
    line = Text.assemble((f"{word:4}", _STYLES[word]), f"  {finding.name}: ")
    terminal.show(line.append(terminal.clean(finding.detail)))
    if finding.cure:
        terminal.show(Text(f"      cure: {terminal.clean(finding.cure)}"))


def add_to(app: typer.Typer) -> None:
    """Register this command."""
    app.command()(doctor)
