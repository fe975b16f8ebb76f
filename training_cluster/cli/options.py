"""What several commands share: their common options, and the way to the daemon."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from training_cluster.cli import credentials, terminal

if TYPE_CHECKING:
    from training_cluster.client import Client

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="TRAINING_CLUSTER_URL",
        metavar="URL",
        help="The daemon to talk to; default: the one the settings describe.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Go on showing changes.")]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="The settings file to read."),
]
JobName = Annotated[str, typer.Argument(metavar="JOB", help="The job's number or id.")]

INTERRUPTED = 130
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104


def connect(url: str | None) -> Client:
    """A client for the daemon that is meant."""
    from training_cluster.client import Client

    return Client(url or _default_url(), credentials.chosen.token())


def _default_url() -> str:
    from training_cluster.settings import load_settings

    settings = load_settings()
    return url_of(settings.host, settings.port)


def url_of(host: str, port: int) -> str:
    """Where a daemon that listens there is reached from this machine."""
    name = _ANYWHERE.get(host, host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def no_json_with(flag: str, is_given: bool, as_json: bool) -> None:
    """Refuse an endless output as one document."""
    if is_given and as_json:
        raise typer.BadParameter(f"--json prints one document and cannot go with {flag}")


@contextmanager
def job_goes_on(name: object, command: str) -> Iterator[None]:
    """While a person only looks: Ctrl-C ends the looking and says that nothing else ended."""
    try:
        yield
    except KeyboardInterrupt:
        terminal.note(f"interrupted; job {name} goes on: training-cluster {command} {name}")
        raise typer.Exit(INTERRUPTED) from None
