"""Commands over what is seen of jobs: metrics, events."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from training_cluster.cli import plot, show, terminal
from training_cluster.cli.options import JobName, Json, Url, connect, job_goes_on, no_json_with

if TYPE_CHECKING:
    from training_cluster.client import Client, Curve, Event, MetricLine, Metrics

LOSS = "train/loss"
_WIDTH = 80
_LATEST = 100

Follow = Annotated[
    bool, typer.Option("--follow", "-f", help="Go on as it happens, until the job has ended.")
]


def metrics(
    job: JobName,
    names: Annotated[
        str | None, typer.Option("--names", "-n", help="Only these metrics: a,b,c.")
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print a table of every step.")] = False,
    follow: Follow = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Show what a job has measured: latest values, all of them, or each as it comes."""
    no_json_with("--follow", follow, as_json)
    no_json_with("--csv", as_csv, as_json)
    if follow and as_csv:
        raise typer.BadParameter("--csv prints what there is and cannot go with --follow")
    wanted = [name.strip() for name in (names or "").split(",") if name.strip()]
    with connect(url) as client:
        if follow:
            with job_goes_on(job, "metrics -f"):
                _follow_metrics(client, job, wanted)
        elif as_csv:
            for piece in client.metrics_table(job, wanted):
                terminal.say_raw(piece)
        else:
            _show_metrics(client.metrics(job, wanted), as_json=as_json)


def _show_metrics(found: Metrics, *, as_json: bool) -> None:
    if as_json:
        terminal.document(found.raw)
    elif found.curves:
        terminal.show(_metrics_table(found))
    else:
        terminal.note(f"nothing was measured: the job is {found.status}")


def _metrics_table(found: Metrics) -> Table:
    made = show.table("METRIC", "LATEST", "LOWEST", "HIGHEST", "STEP", "POINTS")
    for curve in found.curves:
        figures = (f"{value:.6g}" for value in _figures(curve))
        show.row(made, curve.name, *figures, curve.steps[-1], curve.points)
    return made


def _figures(curve: Curve) -> tuple[float, float, float]:
    return curve.values[-1], min(curve.values), max(curve.values)


def _follow_metrics(client: Client, job: str, wanted: list[str]) -> None:
    for line in client.follow_metrics(job):
        values = {n: v for n, v in line.values.items() if not wanted or n in wanted}
        if values:
            terminal.say(_line(line, values))


def _line(line: MetricLine, values: dict[str, float]) -> str:
    word = "step" if line.source == "trainer" else "sample"
    figures = "  ".join(f"{name} {value:.6g}" for name, value in values.items())
    return f"{show.moment(line.time)}  {word} {line.step}  {figures}"


def show_plot(client: Client, job: str) -> None:
    """The job's training loss as a picture."""
    loss = client.metrics(job, [LOSS])[LOSS]
    if not loss.steps:
        terminal.note("there is no loss to draw yet")
        return
    where = terminal.console()
    width = where.width if where.is_terminal else _WIDTH
    terminal.say(plot.draw("training loss by step", loss.steps, loss.values, width))


def events(
    job: Annotated[
        str | None, typer.Argument(metavar="[JOB]", help="Only this job's: number or id.")
    ] = None,
    kind: Annotated[str | None, typer.Option("--type", help="Only of this type.")] = None,
    follow: Follow = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="The latest so many.")] = _LATEST,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Show what has happened, to all jobs and devices or to one job."""
    no_json_with("--follow", follow, as_json)
    with connect(url) as client:
        if follow:
            with job_goes_on(job or "", "events -f"):
                # one job's story from its beginning, everybody's from now on
                for event in client.follow_events(job, kind, after=0 if job else None):
                    terminal.say(_event(event))
            return
        found = client.latest_events(limit, job, kind)
    if as_json:
        terminal.document({"events": [event.raw for event in found]})
    else:
        for event in found:
            terminal.say(_event(event))


def _event(event: Event) -> str:
    about = "" if event.job is None else f"  job {event.job}"
    if event.attempt is not None:
        about += f" attempt {event.attempt}"
    data = "  ".join(f"{name}={_value(value)}" for name, value in event.data.items())
    return f"{show.moment(event.time)}  {event.type}{about}  {data}".rstrip()


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    for command in (metrics, events):
        app.command()(command)
