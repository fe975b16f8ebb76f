"""Commands that move jobs: cancel, pause, resume, retry."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from training_cluster.cli import terminal
from training_cluster.cli.options import Json, Url, connect

if TYPE_CHECKING:
    from training_cluster.client import Cancelled, Client, Controlled

Names = Annotated[list[str], typer.Argument(metavar="JOB...", help="Numbers or ids.")]


def cancel(jobs: Names, url: Url = None, as_json: Json = False) -> None:
    """Cancel jobs that wait, and stop running ones."""
    _move(jobs, url, as_json, lambda client, job: client.cancel(job))


def pause(jobs: Names, url: Url = None, as_json: Json = False) -> None:
    """Have running jobs save, stop and free their devices; take queued ones out of the queue."""
    _move(jobs, url, as_json, lambda client, job: client.pause(job))


def resume(
    jobs: Names,
    priority: Annotated[
        int | None, typer.Option(min=-100, max=100, help="Another one; higher goes first.")
    ] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Let paused jobs go on from their last checkpoint."""
    _move(jobs, url, as_json, lambda client, job: client.resume(job, priority))


def retry(
    jobs: Names,
    from_start: Annotated[
        bool, typer.Option("--from-start", help="Not from the last checkpoint.")
    ] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Try failed or cancelled jobs again, from their last checkpoint."""
    _move(jobs, url, as_json, lambda client, job: client.retry(job, from_start=from_start))


def _move(
    jobs: list[str],
    url: str | None,
    as_json: bool,
    move: Callable[[Client, str], Cancelled | Controlled],
) -> None:
    """One job after the other; fails in the end if any could not be moved."""
    with connect(url) as client:
        answers = [_move_one(client, job, as_json, move) for job in jobs]
    if as_json:
        terminal.document(answers)
    if any("error" in answer for answer in answers):
        raise typer.Exit(1)


def _move_one(
    client: Client, job: str, as_json: bool, move: Callable[[Client, str], Cancelled | Controlled]
) -> dict[str, Any]:
    from training_cluster.client import ApiError

    try:
        answer = move(client, job)
    except ApiError as error:
        terminal.complain(error.message, error.hint)
        return {"job": job, "error": error.raw}
    if not as_json:
        step = getattr(answer, "resumed_from_step", None)
        terminal.say(f"job {job} is {answer.status}" + (f" at step {step}" if step else ""))
    return {"job": job, **answer.raw}


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    for command in (cancel, pause, resume, retry):
        app.command()(command)
