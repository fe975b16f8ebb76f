"""Waits for a job in front of a person's eyes, and says how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from rich.text import Text

from training_cluster.cli import show, terminal
from training_cluster.cli.options import job_goes_on

if TYPE_CHECKING:
    from training_cluster.client import Client, Job


def wait_for(
    client: Client, job_id: str, number: int, *, quiet: bool, timeout: float | None
) -> Job:
    """Wait and show progress: in place on a terminal, a line a change in a pipe."""
    with job_goes_on(number, "status --watch"):
        if quiet:
            return client.wait(job_id, timeout=timeout)
        with terminal.changing() as draw:
            return client.wait(job_id, lambda job: draw(progress_line(job)), timeout=timeout)


def progress_line(job: Job) -> Text:
    """A job's present in one line."""
    line = Text.assemble(f"job {job.number} ", show.status(job.status))
    return line.append(terminal.clean(_more(job)))


def _more(job: Job) -> str:
    if job.wait_reason:
        return f", position {job.queue_position}: {job.wait_reason.message}"
    if job.progress is None or job.is_finished:
        return ""
    loss = show.loss(job)
    return f" {show.bar(job.progress)}" + ("" if loss == "-" else f", loss {loss}")


def report_end(job: Job) -> None:
    """Say how a job ended; exits 1 unless it completed."""
    if job.is_completed:
        for name, value in (job.result or {}).items():
            if isinstance(value, str | int | float):
                terminal.say(f"{name}: {value}")
        return
    require_completed(job)


def require_completed(job: Job) -> None:
    """Exit 1 with the reason unless the job completed."""
    if job.is_completed:
        return
    if job.error is None:
        terminal.complain(f"job {job.number} was {job.status}")
    else:
        hint = job.error.hint or f"training-cluster logs {job.number}"
        terminal.complain(f"job {job.number} failed: {job.error.code}: {job.error.message}", hint)
    raise typer.Exit(1)
