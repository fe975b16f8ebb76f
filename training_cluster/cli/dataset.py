"""Commands over datasets: hand in, list, look, download, remove."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from training_cluster.cli import show, terminal
from training_cluster.cli.dataset_add import add
from training_cluster.cli.options import Json, Url, connect

if TYPE_CHECKING:
    from training_cluster.client import Dataset
    from training_cluster.client.datasets import Upload

dataset = typer.Typer(help="What jobs train on: hand in, look, download, remove.")

_MIB = 1 << 20
_HISTOGRAM_CELLS = 30

Key = Annotated[
    str, typer.Argument(metavar="DATASET", help="A name, NAME@VERSION, an id or a number.")
]


@dataset.callback()
def group() -> None:
    """What jobs train on: hand in, look, download, remove."""


dataset.command()(add)


@dataset.command("list")
def list_all(
    name: Annotated[str | None, typer.Option(help="Only versions of this name.")] = None,
    user: Annotated[str | None, typer.Option(help="Only this user's.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="The newest so many.")] = 50,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """List datasets, newest first."""
    with connect(url) as client:
        found = list(islice(client.datasets.all(name=name, user=user), limit))
    if as_json:
        terminal.document({"datasets": [one.raw for one in found]})
    elif found:
        terminal.show(_table(found))
    else:
        terminal.note("there are none; hand one in with: training-cluster dataset add FILE")


def _table(found: Iterable[Dataset]) -> Table:
    columns = ("DATASET", "STATUS", "FORMAT", "ROWS", "SIZE", "USER", "CREATED", "REMARK")
    made = show.table(*columns, right=("ROWS", "SIZE"))
    for one in found:
        size, created = _size(one.bytes), show.moment(one.created_at)
        remark = one.error or one.description
        rows = "-" if one.rows is None else one.rows
        show.row(
            made, one.key, show.status(one.status), one.format or "-", rows, size, one.user,
            created, remark,
        )  # fmt: skip
    return made


def _size(count: int) -> str:
    return f"{count / _MIB:.1f} MiB" if count >= _MIB else f"{count / 1024:.1f} KiB"


@dataset.command("show")
def show_one(key: Key, url: Url = None, as_json: Json = False) -> None:
    """Show a dataset and what its check has found."""
    with connect(url) as client:
        found = client.datasets.get(key)
    if as_json:
        terminal.document(found.raw)
        return
    made = show.table("", "")
    for label, value in _facts(found):
        show.row(made, label, value)
    terminal.show(made)
    for line in _flaws(found):
        terminal.say(line)


def _facts(found: Dataset) -> Iterable[tuple[str, object]]:
    yield "dataset", found.key
    yield "status", show.status(found.status)
    if found.error:
        yield "error", found.error
    yield "file", f"{found.filename or '-'}, {_size(found.bytes)}"
    if found.source:
        yield found.origin, found.source
    if found.format:
        columns = ", ".join(f"{role}: {column}" for role, column in found.columns.items())
        yield "format", f"{found.format} ({columns})"
        yield "rows", f"{found.rows}, for validation {found.validation_rows or 0}"
    yield "by", f"{found.user}, {show.moment(found.created_at)}"
    yield "sha256", found.sha256 or "-"
    report = found.report or {}
    if report.get("duplicates"):
        yield "duplicates", report["duplicates"]
    for unit in ("characters", "tokens"):
        yield from _lengths(unit, report.get(unit))


def _lengths(unit: str, told: dict[str, Any] | None) -> Iterable[tuple[str, object]]:
    if not told or not told.get("histogram"):
        return
    yield unit, f"{told['shortest']} to {told['longest']} a row, {told['mean']} on average"
    if (long := told.get("over_long") or {}).get("rows"):
        yield "over-long", f"{long['rows']} rows have more than {long['than']} tokens"
    most = max(each["rows"] for each in told["histogram"])
    for each in told["histogram"]:
        bar = "#" * max(1, round(_HISTOGRAM_CELLS * each["rows"] / most))
        yield f"  up to {each['at_most']}", f"{bar} {each['rows']}"


def _flaws(found: Dataset) -> Iterable[str]:
    for kind in ("notes", "remarks"):
        yield from ((found.report or {}).get(kind) or ())
    bad = (found.report or {}).get("bad_rows") or {}
    for line in bad.get("first", ()):
        yield f"  {line}"
    if (left := bad.get("count", 0) - len(bad.get("first", ()))) > 0:
        yield f"  and {left} more"


@dataset.command()
def preview(
    key: Key,
    rows: Annotated[int, typer.Option("--rows", "-n", min=1, max=100, help="So many.")] = 5,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Print the first rows as they are trained on, one JSON object a line."""
    with connect(url) as client:
        found = client.datasets.preview(key, rows)
    if as_json:
        terminal.document({"rows": found})
        return
    for one in found:
        terminal.say(json.dumps(one, ensure_ascii=False))


@dataset.command()
def download(
    key: Key,
    file: Annotated[
        Path | None, typer.Argument(dir_okay=False, help="Default: the name it came with.")
    ] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Write the file as it was handed in; goes on with what an earlier try left."""
    with connect(url) as client:
        found = client.datasets.get(key)
        target = file or Path(Path(found.filename).name or f"{found.name}.jsonl")
        size = client.datasets.download(found.dataset_id, target)
    if as_json:
        terminal.document({"path": str(target), "bytes": size})
    else:
        terminal.say(str(target))


@dataset.command()
def uploads(
    give_up: Annotated[
        str | None, typer.Option(metavar="UPLOAD", help="Throw away what has come of one.")
    ] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """List uploads that broke off; `add FILE --resume UPLOAD` goes on with one."""
    with connect(url) as client:
        found = client.datasets.uploads() if give_up is None else [client.datasets.give_up(give_up)]
    if as_json:
        terminal.document({"uploads": [one.raw for one in found]})
    elif give_up is not None:
        terminal.say(f"{give_up} is given up")
    elif found:
        terminal.show(_upload_table(found))
    else:
        terminal.note("none is under way")


def _upload_table(found: Iterable[Upload]) -> Table:
    columns = ("UPLOAD", "FILE", "HAS COME", "OF", "USER", "BEGUN")
    made = show.table(*columns, right=("HAS COME", "OF"))
    for one in found:
        size = "-" if one.size is None else _size(one.size)
        come, begun = _size(one.received), show.moment(one.created_at)
        show.row(made, one.upload_id, one.filename or "-", come, size, one.user, begun)
    return made


@dataset.command()
def remove(key: Key, url: Url = None, as_json: Json = False) -> None:
    """Remove a version; refused while a job or a model refers to it."""
    with connect(url) as client:
        gone = client.datasets.remove(key)
    if as_json:
        terminal.document(gone.raw)
    else:
        terminal.say(f"{gone.key} is removed")


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    app.add_typer(dataset, name="dataset")
