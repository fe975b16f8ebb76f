"""Commands over models: what jobs left, and the base models they start from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from training_cluster.cli import show, terminal
from training_cluster.cli.options import Json, Url, connect
from training_cluster.domain.disk import in_words

if TYPE_CHECKING:
    from training_cluster.client import Submitted
    from training_cluster.client.models import BaseDownload, BaseModel, Model

model = typer.Typer(help="What jobs left: look, name, download, export, remove.")
base_model = typer.Typer(help="What trainings start from: look, fetch from the hub.")

Key = Annotated[
    str, typer.Argument(metavar="MODEL", help="name@version, name@alias, name, number or id.")
]
OnDevice = Annotated[bool, typer.Option("--device", help="Lease a device for it.")]


@model.callback()
def group() -> None:
    """What jobs left: look, name, download, export, remove."""


@base_model.callback()
def base_group() -> None:
    """What trainings start from: look, fetch from the hub."""


@model.command("list")
def list_all(
    name: Annotated[str | None, typer.Option(help="Its versions.")] = None,
    user: Annotated[str | None, typer.Option(help="Only this user's.")] = None,
    deleted: Annotated[bool, typer.Option("--all", help="Those that were deleted, too.")] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """List models, newest first."""
    with connect(url) as client:
        found = list(client.models.all(name=name, user=user, deleted=deleted))
    if as_json:
        terminal.document({"models": [one.raw for one in found]})
    elif found:
        terminal.show(_table(found))
    else:
        terminal.note("there are none: a job that completes leaves one")


@model.command("show")
def show_one(key: Key, url: Url = None, as_json: Json = False) -> None:
    """Show a model's card: where it comes from, its figures, its configuration."""
    with connect(url) as client:
        if as_json:
            terminal.document(client.models.get(key).raw)
        else:
            terminal.say(client.models.card(key))


@model.command()
def download(
    key: Key,
    target: Annotated[Path, typer.Argument(help="A new file, or a folder.")] = Path(),
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Download a model as a zip."""
    with connect(url) as client:
        file = client.models.download(key, target)
    size = file.stat().st_size
    if as_json:
        terminal.document({"file": str(file), "bytes": size})
    else:
        terminal.say(f"{file} ({in_words(size)})")


@model.command()
def export(
    key: Key,
    name: Annotated[str | None, typer.Option(help="Default: the model's name, -merged.")] = None,
    on_device: OnDevice = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Queue the merge of a LoRA adapter into its base model."""
    with connect(url) as client:
        made = client.models.export(key, name=name, needs_device=on_device)
    _say_made(made, as_json=as_json)


@model.command()
def evaluate(
    key: Key,
    prompt: Annotated[
        list[str] | None, typer.Option(help="To be asked; default: rows of its dataset.")
    ] = None,
    on_device: OnDevice = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Queue an evaluation: the model and its base answer prompts."""
    with connect(url) as client:
        made = client.models.evaluate(key, prompts=prompt or None, needs_device=on_device)
    _say_made(made, as_json=as_json)


@model.command()
def alias(
    key: Annotated[str, typer.Argument(metavar="NAME@VERSION", help="What it is to mean.")],
    word: Annotated[str, typer.Argument(metavar="ALIAS", help="Such as best.")],
    drop: Annotated[bool, typer.Option("--drop", help="Forget it instead.")] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Give a version another name, or forget that name."""
    name, _, version = key.partition("@")
    with connect(url) as client:
        if drop:
            told = client.models.drop_alias(name, word)
        else:
            version = version or client.models.get(name).version
            told = client.models.set_alias(name, word, version)
    if as_json:
        terminal.document(told.raw)
    else:
        terminal.say(f"{name}@{word} means {'nothing any more' if drop else told.key}")


@model.command()
def publish(
    key: Key,
    withdraw: Annotated[
        bool, typer.Option("--withdraw", help="For its owner alone again.")
    ] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Let everybody download a model and train on it."""
    with connect(url) as client:
        found = client.models.set_public(key, is_public=not withdraw)
    if as_json:
        terminal.document(found.raw)
    else:
        terminal.say(f"{found.key} is {'public' if found.is_public else 'not public'}")


@model.command()
def remove(key: Key, url: Url = None, as_json: Json = False) -> None:
    """Remove a model's files; its record stays."""
    with connect(url) as client:
        gone = client.models.delete(key)
    if as_json:
        terminal.document(gone.raw)
    else:
        terminal.say(f"{gone.key} is deleted; its record stays")


@base_model.command("list")
def list_bases(url: Url = None, as_json: Json = False) -> None:
    """List the base models that are here: in the hub's cache and below the model roots."""
    with connect(url) as client:
        found = client.models.bases()
        coming = [one for one in client.models.downloads() if one.status != "completed"]
    if as_json:
        bases, downloads = [one.raw for one in found], [one.raw for one in coming]
        terminal.document({"base_models": bases, "downloads": downloads})
    elif found or coming:
        terminal.show(_base_table(found, coming))
    else:
        terminal.note("there are none; fetch one with: training-cluster base-model add OWNER/NAME")


@base_model.command()
def add(
    name: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="A hub id.")],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit.")] = None,
    hub_token_file: Annotated[
        Path | None, typer.Option(help="A file with a token of the hub, for a private model.")
    ] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Queue the download of a base model from the hub."""
    text = None if hub_token_file is None else hub_token_file.read_text("utf-8").strip()
    with connect(url) as client:
        made = client.models.fetch_base(name, revision=revision, private_hf_token=text)
    _say_made(made, as_json=as_json)


def _say_made(made: Submitted, *, as_json: bool) -> None:
    if as_json:
        terminal.document(made.raw)
        return
    terminal.say(f"job {made.number}: {made.message}")
    terminal.note(f"follow it with: training-cluster status --watch {made.number}")


def _table(found: Iterable[Model]) -> Table:
    made = show.table("MODEL", "KIND", "USER", "JOB", "SIZE", "MADE", "ALIASES", "BASE")
    for one in found:
        when = "deleted" if one.deleted_at else show.moment(one.created_at)
        aliases, size = ", ".join(one.aliases), in_words(one.size_bytes)
        job = str(one.job_number)
        show.row(made, one.key, one.kind, one.user, job, size, when, aliases, one.base_model)
    return made


def _base_table(found: Iterable[BaseModel], coming: Iterable[BaseDownload]) -> Table:
    made = show.table("BASE MODEL", "FROM", "SIZE", "REVISION", "STATE")
    for one in found:
        state = "complete" if one.is_complete else "incomplete"
        revision = (one.revision or "-")[:12]
        show.row(made, one.name, one.source, in_words(one.size_bytes), revision, state)
    for each in coming:
        done = f", {show.progress_text(each.progress)} MiB" if each.progress else ""
        state = f"job {each.number} {each.status}{done}"
        show.row(made, each.name, "hub", "-", "-", state)
    return made


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    app.add_typer(model, name="model")
    app.add_typer(base_model, name="base-model")
