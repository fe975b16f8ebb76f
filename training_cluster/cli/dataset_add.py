"""The command that hands a dataset in: from a file here, on the daemon's machine, or on a hub."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from training_cluster.cli import terminal
from training_cluster.cli.options import Json, Url, connect

if TYPE_CHECKING:
    from training_cluster.client import Client, Dataset

_FAILED = 1
_MIB = 1 << 20


def add(
    file: Annotated[Path | None, typer.Argument(help="jsonl, json, csv, parquet.")] = None,
    hub: Annotated[
        str | None, typer.Option(help="A dataset on the hub instead: owner/name.")
    ] = None,
    split: Annotated[str, typer.Option(help="The hub's split.")] = "train",
    revision: Annotated[str, typer.Option(help="The hub's branch, tag or commit.")] = "main",
    hub_file: Annotated[
        str | None, typer.Option(help="One file of it, where the split does not tell which.")
    ] = None,
    hub_token_file: Annotated[
        Path | None, typer.Option(help="A file with a token of the hub, for a private dataset.")
    ] = None,
    path: Annotated[
        str | None, typer.Option(help="A file on the daemon's machine instead, below a root.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Default: the file's name.")] = None,
    version: Annotated[str | None, typer.Option(help="Default: the next one.")] = None,
    form: Annotated[str | None, typer.Option("--format", help="Default: it is found out.")] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="ROLE=COLUMN, where a column has an unusual name.")
    ] = None,
    validation: Annotated[
        str | None, typer.Option(help="A share, 0.1, or another dataset to validate by.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Draws the rows of that share; default: 42.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Count tokens as this model does, for the report.")
    ] = None,
    description: Annotated[str, typer.Option(help="A sentence.")] = "",
    resume: Annotated[
        str | None,
        typer.Option(metavar="UPLOAD", help="Go on with an upload of this file that broke off."),
    ] = None,
    wait: Annotated[bool, typer.Option(help="Until it was checked.")] = True,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Hand in a dataset. A connection that breaks is taken up where it broke."""
    said = {
        "name": name,
        "version": version,
        "format": form,
        "columns": _columns(column or []),
        "model": model,
        "validation_seed": seed,
        "description": description,
        **_validation(validation),
    }
    given = {key: value for key, value in said.items() if value not in (None, "", {})}
    if sum(place is not None for place in (file, hub, path)) != 1:
        raise typer.BadParameter("name a file, or one of --hub and --path")
    _refuse_odd(file, resume, given)
    with connect(url) as client:
        if file is not None:
            made = _send(client, file, resume, given)
        elif hub is not None:
            place = {"dataset": hub, "split": split, "revision": revision, "file": hub_file}
            token = None if hub_token_file is None else hub_token_file.read_text("utf-8").strip()
            made = client.datasets.take(hub=place, private_hf_token=token, **given)
        else:
            made = client.datasets.take(path=path, **given)
        if wait and sys.stderr.isatty():
            terminal.note("it is being checked; Ctrl-C leaves that to the daemon")
        found = client.datasets.wait(made.dataset_id) if wait else made
    _tell(found, as_json)


def _refuse_odd(file: Path | None, resume: str | None, given: dict[str, Any]) -> None:
    if resume is not None and (file is None or given):
        raise typer.BadParameter("--resume goes with the file alone: the rest was said before")
    if file is not None and file.is_dir():
        raise typer.BadParameter(f"{file} is a folder: name one file with rows")
    if file is not None and not file.is_file():
        raise typer.BadParameter(f"there is no file {file}")


def _send(client: Client, file: Path, resume: str | None, given: dict[str, Any]) -> Dataset:
    """Hand a file in; how to go on is said when that broke off, by Ctrl-C too."""
    from training_cluster.client import ApiError, ClientError

    upload = resume or client.datasets.begin(file, **given).upload_id
    try:
        return client.datasets.send(upload, file, _progress())
    except (ClientError, KeyboardInterrupt) as error:
        if not isinstance(error, ApiError):
            terminal.note(f"go on with: training-cluster dataset add {file} --resume {upload}")
        raise


def _tell(found: Dataset, as_json: bool) -> None:
    """The key on standard output, all else beside it; exit 1 for one that cannot be used."""
    if as_json:
        terminal.document(found.raw)
    else:
        terminal.say(found.key)
    if found.status == "invalid":
        if not as_json:
            terminal.complain(found.error or "it cannot be used", f"see: dataset show {found.key}")
        raise typer.Exit(_FAILED)
    if not as_json and found.status == "ready":
        held = f", {found.validation_rows} for validation" if found.validation_rows else ""
        terminal.note(f"{found.rows} rows of {found.format}{held}")
        report = found.report or {}
        for remark in (*(report.get("notes") or ()), *(report.get("remarks") or ())):
            terminal.note(f"note: {remark}")
        terminal.note(f"train on it: training-cluster submit --dataset-version {found.key}")


def _columns(pairs: Iterable[str]) -> dict[str, str]:
    split = [pair.partition("=") for pair in pairs]
    if not all(role and column for role, _, column in split):
        raise typer.BadParameter("--column is ROLE=COLUMN, such as prompt=question")
    return {role: column for role, _, column in split}


def _validation(said: str | None) -> dict[str, Any]:
    if said is None:
        return {}
    try:
        return {"validation_fraction": float(said)}
    except ValueError:
        return {"validation_dataset": said}


def _progress() -> Callable[[int, int], None]:
    """A line that counts, on a terminal."""
    if not sys.stderr.isatty():
        return lambda sent, total: None

    def tell(sent: int, total: int) -> None:
        end = "\n" if sent >= total else ""
        share = 100 * sent // max(total, 1)
        sys.stderr.write(f"\r{sent // _MIB} of {total // _MIB} MiB ({share} %){end}")
        sys.stderr.flush()

    return tell
