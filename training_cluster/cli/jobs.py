"""Commands that look at jobs: ps, status, logs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from training_cluster.cli import show, terminal
from training_cluster.cli.metrics import show_plot
from training_cluster.cli.options import (
    JobName,
    Json,
    Url,
    Watch,
    connect,
    job_goes_on,
    no_json_with,
)
from training_cluster.cli.waiting import require_completed
from training_cluster.domain.job import FINISHED, JobState

if TYPE_CHECKING:
    from training_cluster.client import Client, Job

_WATCH_SECONDS = 2.0


def ps(
    everything: Annotated[bool, typer.Option("--all", "-a", help="Finished jobs as well.")] = False,
    status: Annotated[JobState | None, typer.Option(help="Only jobs in this state.")] = None,
    user: Annotated[str | None, typer.Option(help="Only this user's jobs.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Jobs shown at most.")] = 50,
    watch: Watch = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """List jobs, newest first; without -a those that have not finished."""
    no_json_with("--watch", watch, as_json)
    states = [status] if status or everything else _unfinished()
    with connect(url) as client:
        if watch:
            _watch_jobs(client, states, user, limit)
        found = _find(client, states, user, limit + 1)
    if as_json:
        terminal.document({"jobs": [job.raw for job in found[:limit]]})
        return
    terminal.show(show.jobs_table(found[:limit], time.time()))
    if len(found) > limit:
        terminal.note(f"there are more than {limit}: show them with --limit")


def _unfinished() -> list[JobState | None]:
    return [state for state in JobState if state not in FINISHED]


def _find(
    client: Client, states: Iterable[JobState | None], user: str | None, limit: int
) -> list[Job]:
    # state after state in the order of a job's life: one that moves on meanwhile is seen twice,
    # and kept once, rather than missed
    found: dict[str, Job] = {}
    for state in states:
        for job in client.jobs(status=state, user=user, limit=limit):
            found[job.job_id] = job
    return list(islice(sorted(found.values(), key=lambda job: -job.number), limit))


def _watch_jobs(
    client: Client, states: list[JobState | None], user: str | None, limit: int
) -> None:
    with terminal.changing() as draw:
        while True:
            draw(show.jobs_table(_find(client, states, user, limit), time.time()))
            time.sleep(_WATCH_SECONDS)


def status(
    job: JobName,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show changes until the job has ended.")
    ] = False,
    plot: Annotated[bool, typer.Option("--plot", help="Draw the training loss.")] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Show one job: progress, why it waits, why it failed, its attempts."""
    no_json_with("--watch", watch, as_json)
    no_json_with("--plot", plot, as_json)
    with connect(url) as client:
        if watch:
            _watch_job(client, job)
            return
        found = client.job(job)
        if as_json:
            terminal.document(found.raw)
            return
        terminal.show(show.job_view(found, time.time()))
        if plot:
            show_plot(client, job)


def _watch_job(client: Client, job: str) -> None:
    with job_goes_on(job, "status"):
        with terminal.changing() as draw:
            ended = client.wait(job, lambda now: draw(show.job_view(now, time.time())))
        require_completed(ended)


def logs(
    job: JobName,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")
    ] = False,
    tail: Annotated[int | None, typer.Option(min=0, help="Only the last lines.")] = None,
    attempt: Annotated[
        int | None, typer.Option(min=1, help="Which attempt; default: the latest.")
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="As it was printed: colours, every state of a bar.")
    ] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Print what a job's trainer printed, made readable."""
    no_json_with("--follow", follow, as_json)
    with connect(url) as client:
        if as_json:
            text = client.logs(job, tail, attempt, raw=raw)
            terminal.document({"job": job, "attempt": attempt, "log": text})
        elif follow:
            with job_goes_on(job, "logs -f"):
                _print(client.follow_logs(job, tail, attempt, raw=raw))
        elif not _print(client.log_chunks(job, tail, attempt, raw=raw)):
            terminal.note(f"the log of job {job} is empty: it is {client.job(job).status}")


def _print(pieces: Iterator[str]) -> bool:
    found = False
    for piece in pieces:
        found = found or bool(piece)
        terminal.say_raw(piece)
    return found


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    for command in (ps, status, logs):
        app.command()(command)
