"""The command that makes room on the disk: prune."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from training_cluster.cli import terminal
from training_cluster.cli.options import Json, Url, connect
from training_cluster.domain.disk import in_words

if TYPE_CHECKING:
    from training_cluster.client import Pruned

_AGE = re.compile(r"(\d{1,6}(?:\.\d+)?)([hdw]?)")
_DAYS = {"h": 1 / 24, "d": 1.0, "": 1.0, "w": 7.0}
_MOST_SHOWN = 50


def prune(
    checkpoints: Annotated[
        bool, typer.Option("--checkpoints", help="Those on the way to a model.")
    ] = False,
    logs: Annotated[bool, typer.Option("--logs", help="What trainers printed.")] = False,
    caches: Annotated[bool, typer.Option("--caches", help="Converted datasets.")] = False,
    jobs: Annotated[bool, typer.Option("--jobs", help="Jobs that left no model.")] = False,
    results: Annotated[
        bool, typer.Option("--results", help="Jobs with the model they left.")
    ] = False,
    deliveries: Annotated[
        bool, typer.Option("--deliveries", help="Notifications that came to their end.")
    ] = False,
    datasets: Annotated[
        bool, typer.Option("--datasets", help="Datasets no model and no job that goes on uses.")
    ] = False,
    uploads: Annotated[bool, typer.Option("--uploads", help="Uploads that broke off.")] = False,
    older_than: Annotated[
        str, typer.Option(metavar="AGE", help="Since the job ended or the file came: 12h, 30d, 4w.")
    ] = "30d",
    user: Annotated[str | None, typer.Option(help="Of this user only.")] = None,
    state: Annotated[str | None, typer.Option(help="completed, failed or cancelled only.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it.")] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Show what of finished jobs could go and what that frees; with --yes remove it. Without a kind
    it is checkpoints and caches. A model goes by --results only, a dataset by --datasets."""
    chosen = {
        "checkpoints": checkpoints, "logs": logs, "caches": caches, "jobs": jobs,
        "results": results, "deliveries": deliveries, "datasets": datasets, "uploads": uploads,
    }  # fmt: skip
    kinds = [name for name, is_chosen in chosen.items() if is_chosen]
    with connect(url) as client:
        done = client.prune(
            kinds or ("checkpoints", "caches"),
            older_than_days=_days(older_than), user=user, state=state, dry_run=not yes,
        )  # fmt: skip
    if as_json:
        terminal.document(done.raw)
    else:
        _tell(done)
    if done.failed:
        raise typer.Exit(1)


def _days(text: str) -> float:
    found = _AGE.fullmatch(text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is no age: 12h, 30d, 4w", param_hint="--older-than")
    return float(found[1]) * _DAYS[found[2]]


def _tell(done: Pruned) -> None:
    for item in done.items[:_MOST_SHOWN]:
        what = f"job {item['number']}" if item["number"] else item.get("name")
        whose = f"{what} of {item['user']}: " if what else ""
        terminal.say(f"{in_words(item['bytes']):>10}  {whose}{item['path']}")
    if done.things > _MOST_SHOWN:
        terminal.say(f"and {done.things - _MOST_SHOWN} more")
    for failure in done.failed:
        terminal.complain(failure)
    if done.deliveries:
        terminal.say(f"{done.deliveries} deliveries")
    if not done.dry_run:
        terminal.say(f"freed {in_words(done.bytes)}")
    elif done.things or done.deliveries:
        terminal.say(f"--yes would free {in_words(done.bytes)}")
    else:
        terminal.say("there is nothing to remove")


def add_to(app: typer.Typer) -> None:
    """Register this command."""
    app.command()(prune)
